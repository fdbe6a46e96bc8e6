//! GTP-U: tunnels, and messages about paths.

use super::{bytes, config, find, found, service};
use dataplane_ebpf::{dissect::Dissected, service::protocol};
use proptest::{collection::vec, prelude::*};

fn gtpu(hex: &str) -> Option<Dissected> {
    find(&bytes(&hex.replace(' ', "")), &service(protocol::GTPU))
}

fn teid(hex: &str) -> Option<Dissected> {
    found(&bytes(hex), false)
}

fn path(hex: &str) -> Option<Dissected> {
    found(&bytes(&hex.replace(' ', "")), true)
}

/// 3GPP TS 29.281 §5.1, figure 5.1-1: the header without and with its optional fields.
#[test]
fn a_g_pdu_has_its_teid_at_offset_4() {
    assert_eq!(gtpu("30 ff 0004 00000001 45000054"), teid("00000001"));
    assert_eq!(gtpu("32 ff 0008 deadbeef 0001 00 00 45000054"), teid("deadbeef"));
    // §5.2.2.7: with a PDU Session Container, as 5G sends it.
    assert_eq!(gtpu("34 ff 000c 0a0b0c0d 0000 00 85 01 00 09 00 45000054"), teid("0a0b0c0d"));
}

/// §7.3.2 and §7.3.3: these carry the TEID of the receiver's tunnel too.
#[test]
fn end_marker_and_tunnel_status_belong_to_their_tunnel() {
    assert_eq!(gtpu("30 fe 0000 01020304"), teid("01020304"));
    assert_eq!(gtpu("30 fd 0004 01020304 e6000100"), teid("01020304"));
}

/// §7.2.1 to §7.2.3.
#[test]
fn echoes_and_notifications_are_about_a_path() {
    let request = "32 01 0004 00000000 1234 00 00";
    assert_eq!(gtpu(request), path(request));
    // With a private extension behind it, it is still the same message.
    assert_eq!(gtpu(&format!("{request} ff 0003 000a 01")), path(request));
    let response = "32 02 0006 00000000 1234 00 00";
    assert_eq!(gtpu(&format!("{response} 0e 00")), path(response));
    let notification = "32 1f 0007 00000000 1234 00 00";
    assert_eq!(gtpu(&format!("{notification} 8d 01 85")), path(notification));
}

/// §7.3.1: Tunnel Endpoint Identifier Data I and GTP-U Peer Address.
#[test]
fn an_error_indication_names_the_peers_tunnel_and_address() {
    let header = "32 1a 0010 00000000 0007 00 00";
    let v4 = "10 0badcafe 85 0004 c0000201";
    assert_eq!(gtpu(&format!("{header} {v4}")), path(v4));
    let v6 = "10 0badcafe 85 0010 20010db8000000000000000000000001";
    assert_eq!(gtpu(&format!("{header} {v6}")), path(&v6.replace(' ', "")[..40]));
    // Behind the UDP port that the unknown G-PDU came from (§5.2.2.1).
    let extended = "36 1a 0014 00000000 0007 00 40 01 0868 00";
    assert_eq!(gtpu(&format!("{extended} {v4}")), path(v4));
    // A recovery time stamp behind them changes nothing.
    assert_eq!(gtpu(&format!("{header} {v4} e7 0004 e0000000")), path(v4));
    for cut in ["", "10", "10 0badcafe 85", "10 0badcafe 85 0004", "10 0badcafe 85 0004 c00002"] {
        assert_eq!(gtpu(&format!("{header} {cut}")), None, "{cut}");
    }
    assert_eq!(gtpu(&format!("{header} 85 0004 c0000201 10 0badcafe")), None, "wrong order");
}

#[test]
fn teid_0_names_no_tunnel() {
    for kind in ["ff", "fe", "fd"] {
        assert_eq!(gtpu(&format!("32 {kind} 0008 00000000 0001 00 00 45000054")), None, "{kind}");
    }
}

#[test]
fn a_message_about_a_path_needs_a_sequence_number_and_teid_0() {
    assert_eq!(gtpu("30 01 0004 00000000 1234 00 00"), None);
    assert_eq!(gtpu("32 01 0004 00000001 1234 00 00"), None);
    assert_eq!(gtpu("32 01 0004 00000000 1234 00"), None);
}

#[test]
fn other_versions_and_gtp_prime_are_refused() {
    for flags in (0..=255_u8).filter(|flags| flags & 0xf0 != 0x30) {
        assert_eq!(gtpu(&format!("{flags:02x} ff 0004 00000001 45000054")), None, "{flags:#x}");
        assert_eq!(gtpu(&format!("{flags:02x} 01 0004 00000000 1234 0000")), None, "{flags:#x}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn only_messages_of_a_tunnel_are_found_by_a_teid(
        flags in 0x30..0x40_u8,
        kind: u8,
        teid: [u8; 4],
        behind in vec(any::<u8>(), 0..40),
    ) {
        let message = [&[flags, kind, 0, 0], &teid[..], &behind].concat();
        let found = find(&message, &service(protocol::GTPU));
        let of_tunnel = matches!(kind, 253..) && teid != [0; 4];
        let expected = super::found(&teid, false);
        prop_assert_eq!(found == expected, of_tunnel);
        prop_assert!(of_tunnel || found.is_none_or(|found| found.opens && teid == [0; 4]));
    }
}
