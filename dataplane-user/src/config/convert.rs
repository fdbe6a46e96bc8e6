//! From TOML values to typed ones; an error says what the value must be.

use super::{
    Account, EgressInterfaces, cpus,
    hint::{alternatives, did_you_mean},
};
use dataplane_ebpf::dissect::quic_lb::UNROUTABLE;
use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};
use toml::de::DeValue;

/// The longest name of a node or service, in bytes.
const NAME_MAX: usize = 63;

/// The longest name of an interface, in bytes (IFNAMSIZ without the final zero).
const INTERFACE_NAME_MAX: usize = 15;

/// An integer in a range.
pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl FnOnce(&DeValue<'_>) -> Result<T, String>
where
    T: TryFrom<u64> + Copy + PartialOrd + std::fmt::Display,
{
    move |value| {
        number(value)
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("an integer from {} to {}", range.start(), range.end()))
    }
}

fn number(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "true or false, without quotes".to_owned())
}

/// A name of a node or service.
pub(super) fn name(value: &DeValue<'_>) -> Result<String, String> {
    let fits = |text: &&str| {
        text.len() <= NAME_MAX
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let text = value.as_str().filter(fits).ok_or_else(|| {
        format!(
            "a string of 1 to {NAME_MAX} letters, digits, '-', '_' or '.' that begins with a \
             letter or digit"
        )
    })?;
    Ok(text.to_owned())
}

/// A name of an interface.
pub(super) fn interface(value: &DeValue<'_>) -> Result<String, String> {
    let fits = |text: &&str| {
        (1..=INTERFACE_NAME_MAX).contains(&text.len())
            && ![".", ".."].contains(text)
            && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
            && !text.contains(char::is_control)
    };
    let text = value.as_str().filter(fits).ok_or_else(|| {
        format!("an interface's name of 1 to {INTERFACE_NAME_MAX} bytes, as `ip link` shows it")
    })?;
    Ok(text.to_owned())
}

/// The interfaces that are fenced at egress.
pub(super) fn egress(value: &DeValue<'_>) -> Result<EgressInterfaces, String> {
    const EXPECTED: &str = "\"all\", or a list of interfaces' names such as [\"eth0\", \"tun0\"]";
    if value.as_str() == Some("all") {
        return Ok(EgressInterfaces::All);
    }
    let array = value.as_array().ok_or(EXPECTED)?;
    let names = array.iter().map(|value| interface(value.get_ref()));
    let names = names.collect::<Result<_, _>>().map_err(|_| EXPECTED)?;
    Ok(EgressInterfaces::Named(names))
}

/// An address of one host.
pub(super) fn address(value: &DeValue<'_>) -> Result<IpAddr, String> {
    let address: IpAddr = value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or("an IPv4 or IPv6 address in quotes, without a port")?;
    match address {
        // The tables hold IPv4 this way: one address would have two spellings.
        IpAddr::V6(v6) if let Some(v4) = v6.to_ipv4_mapped() => {
            Err(format!("written as the IPv4 address \"{v4}\""))
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Err("an address that routers know, not a link-local one".to_owned())
        }
        IpAddr::V4(v4) if v4.is_broadcast() => Err("the address of one host".to_owned()),
        _ if address.is_unspecified() || address.is_multicast() => {
            Err("the address of one host".to_owned())
        }
        _ => Ok(address),
    }
}

/// An address and port of this host to listen at, `[::]` and `0.0.0.0` included.
pub(super) fn socket_address(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let address = value.as_str().and_then(|text| text.parse::<SocketAddr>().ok());
    let address = address.filter(|address| address.port() != 0 && !address.ip().is_multicast());
    address.ok_or_else(|| {
        "an address and a port in quotes, such as \"127.0.0.1:9472\" or \"[::1]:9472\"".to_owned()
    })
}

/// A time in a range.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl FnOnce(&DeValue<'_>) -> Result<Duration, String> {
    move |value| {
        let time = value
            .as_str()
            .and_then(|text| humantime::parse_duration(text).ok())
            .ok_or("a string with a unit, such as \"10s\" or \"250ms\"")?;
        let (low, high) = range.clone().into_inner();
        if range.contains(&time) {
            Ok(time)
        } else {
            let text = humantime::format_duration;
            Err(format!("a time from {} to {}", text(low), text(high)))
        }
    }
}

/// A size in a range, in bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> impl FnOnce(&DeValue<'_>) -> Result<u64, String> {
    move |value| {
        let size = value
            .as_str()
            .and_then(bytes)
            .ok_or("a string with a unit, such as \"16MiB\" or \"256KiB\"")?;
        let (low, high) = range.clone().into_inner();
        let text = |size: u64| format!("{}KiB", size >> 10);
        if range.contains(&size) {
            Ok(size)
        } else {
            Err(format!("a size from {} to {}", text(low), text(high)))
        }
    }
}

/// A size that is a power of two.
pub(super) fn power_of_two(
    range: RangeInclusive<u64>,
) -> impl FnOnce(&DeValue<'_>) -> Result<u32, String> {
    move |value| {
        let size = size(range)(value)?;
        match u32::try_from(size) {
            Ok(size) if size.is_power_of_two() => Ok(size),
            _ => Err("a power of two, such as \"8MiB\" or \"16MiB\"".to_owned()),
        }
    }
}

/// How many bytes a number with a unit is.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match text[end..].trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    text[..end].parse::<u64>().ok()?.checked_mul(unit)
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    choices: &[(&str, T)],
) -> impl FnOnce(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let found = |text: &str| choices.iter().find(|(word, _)| *word == text);
        let text = value.as_str();
        match text.and_then(found) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let hint = text.map(|text| did_you_mean(text, '"', words.iter().copied()));
                let expected = alternatives(&words, '"');
                Err(expected + &hint.unwrap_or_default())
            }
        }
    }
}

/// A seed: 16 hexadecimal digits, or an integer.
pub(super) fn seed(value: &DeValue<'_>) -> Result<u64, String> {
    let hexadecimal = value
        .as_str()
        .filter(|text| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    number(value).or(hexadecimal).ok_or_else(|| {
        "a string of 16 hexadecimal digits, or an integer from 0 to 2^64 - 1".to_owned()
    })
}

/// An absolute path.
pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let fits = |text: &&str| text.starts_with('/') && !text.contains('\0');
    let text = value.as_str().filter(fits).ok_or("an absolute path, one that begins with '/'")?;
    Ok(text.into())
}

/// A text that is not empty.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    Ok(text.ok_or("a string that is not empty")?.to_owned())
}

/// The members of an etcd cluster.
pub(super) fn members(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    const EXPECTED: &str =
        "a list of members such as [\"http://192.0.2.1:2379\"], each with http:// or https://";
    let fits = |text: &&str| {
        let host = text.strip_prefix("http://").or(text.strip_prefix("https://"));
        host.is_some_and(|host| !host.is_empty())
    };
    let array = value.as_array().filter(|array| !array.is_empty()).ok_or(EXPECTED)?;
    let member = |value: &DeValue<'_>| value.as_str().filter(fits).map(str::to_owned);
    let members: Option<Vec<_>> = array.iter().map(|value| member(value.get_ref())).collect();
    Ok(members.ok_or(EXPECTED)?)
}

/// Permissions.
pub(super) fn permissions(value: &DeValue<'_>) -> Result<u32, String> {
    value
        .as_str()
        .filter(|text| (3..=4).contains(&text.len()))
        .filter(|text| text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)))
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|&mode| mode <= 0o777)
        .ok_or_else(|| "a string of octal digits up to \"0777\", such as \"0660\"".to_owned())
}

/// A user or group.
pub(super) fn account(value: &DeValue<'_>) -> Result<Account, String> {
    let id = number(value).and_then(|id| u32::try_from(id).ok()).filter(|&id| id != u32::MAX);
    let fits = |text: &&str| !text.is_empty() && !text.contains([':', '\0', '\n']);
    let name = value.as_str().filter(fits);
    id.map(Account::Id)
        .or_else(|| name.map(|name| Account::Name(name.to_owned())))
        .ok_or_else(|| "a name such as \"game\", or a number such as 1001".to_owned())
}

/// Users or groups.
pub(super) fn accounts(value: &DeValue<'_>) -> Result<Vec<Account>, String> {
    const EXPECTED: &str = "a list of users, by name or number, such as [\"game\", 1001]";
    let array = value.as_array().ok_or(EXPECTED)?;
    let accounts = array.iter().map(|value| account(value.get_ref()));
    accounts.collect::<Result<_, _>>().map_err(|_| EXPECTED.to_owned())
}

/// Lengths of server ids, by config id: one for all, or a list.
pub(super) fn server_id_lengths(value: &DeValue<'_>) -> Result<[u8; UNROUTABLE as usize], String> {
    let length = |value: &DeValue<'_>, least: u64| {
        let length = number(value).filter(|length| (least..=15).contains(length));
        length.and_then(|length| u8::try_from(length).ok())
    };
    let mut lengths = [0; UNROUTABLE as usize];
    let fits = match value.as_array() {
        None => length(value, 1).map(|length| lengths.fill(length)),
        Some(list) if list.len() > lengths.len() => None,
        Some(list) => list.iter().zip(&mut lengths).try_for_each(|(value, place)| {
            *place = length(value.get_ref(), 0)?;
            Some(())
        }),
    };
    fits.filter(|()| lengths.iter().any(|&length| length > 0)).map(|()| lengths).ok_or_else(|| {
        "an integer from 1 to 15, or a list of up to 7 of them, one for each config id from 0 on, \
         with 0 for those that are not in use"
            .to_owned()
    })
}

/// A list of CPUs.
pub(super) fn cpu_list(value: &DeValue<'_>) -> Result<Vec<u32>, String> {
    const EXPECTED: &str = "a list of CPUs such as \"0-3,6\" or [0, 1, 2, 3, 6]";
    let because = |error: cpus::BadCpus| format!("{EXPECTED}, each once, but {error}");
    if let Some(text) = value.as_str() {
        return cpus::parse(text).map_err(because);
    }
    let array = value.as_array().ok_or(EXPECTED)?;
    let cpu = |value: &DeValue<'_>| number(value).and_then(|cpu| u32::try_from(cpu).ok());
    let list: Option<Vec<_>> = array.iter().map(|value| cpu(value.get_ref())).collect();
    cpus::each_once(list.ok_or(EXPECTED)?).map_err(because)
}
