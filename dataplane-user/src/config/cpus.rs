//! Lists of CPUs, as the kernel writes them: `0-3,6`.

use super::CPU_MAX;
use std::io;
use thiserror::Error;

/// Where the kernel says which CPUs run.
pub(super) const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Not a list of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum BadCpus {
    #[error("it names no CPU")]
    Empty,
    #[error("{0:?} is neither a CPU nor a range such as 0-3")]
    Part(String),
    #[error("the range {0}-{1} runs backwards")]
    Backwards(u32, u32),
    #[error("CPU {0} is above {CPU_MAX}, the highest one")]
    TooHigh(u32),
    #[error("CPU {0} stands twice")]
    Twice(u32),
}

/// The CPUs of a list, in increasing order.
pub(super) fn parse(list: &str) -> Result<Vec<u32>, BadCpus> {
    let mut cpus = Vec::new();
    if list.trim().is_empty() {
        return Err(BadCpus::Empty);
    }
    for part in list.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| text.parse::<u32>().ok())
                .flatten()
                .ok_or_else(|| BadCpus::Part(part.to_owned()))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(BadCpus::Backwards(first, last));
        }
        if last > CPU_MAX {
            return Err(BadCpus::TooHigh(last));
        }
        cpus.extend(first..=last);
        // Bounds the memory that a list of ranges can take.
        if cpus.len() > 2 * CPU_MAX as usize + 2 {
            break;
        }
    }
    each_once(cpus)
}

/// The same CPUs in increasing order, if each stands once.
pub(super) fn each_once(mut cpus: Vec<u32>) -> Result<Vec<u32>, BadCpus> {
    cpus.sort_unstable();
    if let Some(&high) = cpus.last().filter(|&&last| last > CPU_MAX) {
        return Err(BadCpus::TooHigh(high));
    }
    match cpus.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(BadCpus::Twice(pair[0])),
        None if cpus.is_empty() => Err(BadCpus::Empty),
        None => Ok(cpus),
    }
}

/// The CPUs of this machine that are online.
pub fn online() -> io::Result<Vec<u32>> {
    let list = std::fs::read_to_string(ONLINE)?;
    parse(&list).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_the_kernel_writes_them() {
        assert_eq!(parse("0-3,6\n"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(parse("6, 0-1"), Ok(vec![0, 1, 6]));
        assert_eq!(parse("1023"), Ok(vec![1023]));
        for (list, error) in [
            ("", BadCpus::Empty),
            ("0-", BadCpus::Part("0-".to_owned())),
            ("0,,1", BadCpus::Part(String::new())),
            ("+1", BadCpus::Part("+1".to_owned())),
            ("99999999999", BadCpus::Part("99999999999".to_owned())),
            ("3-0", BadCpus::Backwards(3, 0)),
            ("0-1024", BadCpus::TooHigh(1024)),
            ("0-3,2", BadCpus::Twice(2)),
        ] {
            assert_eq!(parse(list), Err(error), "{list:?}");
        }
        let many = vec!["0-1023"; 1000].join(",");
        assert_eq!(parse(&many), Err(BadCpus::Twice(0)));
    }

    #[test]
    fn this_machine_has_cpus() {
        assert!(!online().unwrap().is_empty());
    }
}
