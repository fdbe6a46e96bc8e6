//! `jumpgate verdicts`

use crate::table::{print, row};
use anyhow::Result;
use dataplane_ebpf::loss::Loss;
use dataplane_ebpf::verdict::{Admission, Egress, Transmission, Verdict};

/// Shows what can become of a packet, and what each name in `stats` means.
pub fn verdicts() -> Result<()> {
    let mut rows = vec![row(["WHERE", "CODE", "WHAT", "MEANING"])];
    for verdict in Verdict::ALL {
        let code = (*verdict as usize).to_string();
        rows.push(row(["xdp", &code, verdict.name(), verdict.explanation().trim()]));
    }
    for admission in Admission::ALL {
        let code = (*admission as usize).to_string();
        rows.push(row(["socket", &code, admission.name(), admission.explanation().trim()]));
    }
    for egress in Egress::ALL {
        let code = (*egress as usize).to_string();
        rows.push(row(["egress", &code, egress.name(), egress.explanation().trim()]));
    }
    for transmission in Transmission::ALL {
        let code = (*transmission as usize).to_string();
        rows.push(row(["af_xdp", &code, transmission.name(), transmission.explanation().trim()]));
    }
    for loss in Loss::ALL {
        let code = (*loss as usize).to_string();
        rows.push(row(["lost", &code, loss.name(), loss.explanation().trim()]));
    }
    print(&rows)
}
