//! Where the running kernel's structures have their fields, from its BTF (`/sys/kernel/btf/vmlinux`).
//!
//! aya reads BTF too, but shows no fields; and this needs a few names out of 150,000 types, at every
//! start of a daemon, so it goes through them once and builds nothing.

use std::{collections::BTreeMap, fs, io};
use thiserror::Error;

/// Where the kernel describes itself.
const PATH: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;

/// Kinds of types (Linux uapi, `linux/btf.h`), by what follows their first 12 bytes.
mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const ENUM64: u32 = 19;
    pub const LAST: u32 = ENUM64;
}

/// Why the layout is not known.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// No BTF.
    #[error("the kernel's types cannot be read from {PATH}")]
    Read(#[source] io::Error),
    /// Not BTF as this version knows it.
    #[error("the kernel's types in {PATH} are of an unknown form")]
    Form,
    /// No such field.
    #[error("the kernel has no field {field} in struct {structure}")]
    Field {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
    },
}

/// A structure's field.
pub type Field = (&'static str, &'static str);

/// The offsets in bytes of fields of the running kernel's structures.
pub fn offsets<const N: usize>(fields: [Field; N]) -> Result<[u32; N], LayoutError> {
    find(&fs::read(PATH).map_err(LayoutError::Read)?, fields)
}

fn find<const N: usize>(btf: &[u8], fields: [Field; N]) -> Result<[u32; N], LayoutError> {
    let mut found = BTreeMap::new();
    scan(btf, &fields, &mut found).ok_or(LayoutError::Form)?;
    let mut offsets = [0; N];
    for (offset, field) in offsets.iter_mut().zip(fields) {
        let (structure, name) = field;
        let missing = LayoutError::Field { structure, field: name };
        *offset = *found.get(&field).ok_or(missing)?;
    }
    Ok(offsets)
}

/// Goes through all types once; `None` if they cannot be followed.
fn scan(btf: &[u8], fields: &[Field], found: &mut BTreeMap<Field, u32>) -> Option<()> {
    let word = |at: usize| Some(u32::from_ne_bytes(btf.get(at..at + 4)?.try_into().ok()?));
    if u16::from_ne_bytes(btf.get(..2)?.try_into().ok()?) != MAGIC {
        return None;
    }
    // Offsets count from the end of the header.
    let header = word(4)? as usize;
    let [types, length, strings] = [word(8)? as usize, word(12)? as usize, word(16)? as usize];
    let end = header.checked_add(types)?.checked_add(length)?;
    let strings = btf.get(header.checked_add(strings)?..)?;
    let is_called = |offset: u32, name: &str| {
        let text = strings.get(offset as usize..).unwrap_or_default();
        text.starts_with(name.as_bytes()) && text.get(name.len()) == Some(&0)
    };
    let mut at = header + types;
    while at < end {
        let [name, info] = [word(at)?, word(at + 4)?];
        let (kind, members, has_bits) =
            (info >> 24 & 0x1f, (info & 0xffff) as usize, info >> 31 != 0);
        at += 12;
        let each = match kind {
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * members,
            kind::ENUM | kind::FUNC_PROTO => 8 * members,
            kind::ARRAY => 12,
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            1..=kind::LAST => 0,
            _ => return None,
        };
        if kind == kind::STRUCT {
            for &field in fields.iter().filter(|(structure, _)| is_called(name, structure)) {
                for member in (at..at + each).step_by(12) {
                    if is_called(word(member)?, field.1) {
                        let bits = word(member + 8)?;
                        // With bit fields the upper byte is their length.
                        let bits = if has_bits { bits & 0x00ff_ffff } else { bits };
                        found.entry(field).or_insert(bits / 8);
                    }
                }
            }
        }
        at += each;
    }
    (at == end).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct list_head { struct list_head *next, *prev; }` is so since Linux 1.0.
    const NEXT: Field = ("list_head", "next");
    const PREV: Field = ("list_head", "prev");

    #[test]
    fn fields_of_the_running_kernel_are_found() {
        let word = size_of::<usize>() as u32;
        assert_eq!(offsets([NEXT, PREV]).unwrap(), [0, word]);
        let [aux, id] = offsets([("bpf_prog", "aux"), ("bpf_prog_aux", "id")]).unwrap();
        assert!(aux > 0 && aux.is_multiple_of(word) && id > 0, "{aux} {id}");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let error = offsets([("list_head", "sideways")]).unwrap_err().to_string();
        assert_eq!(error, "the kernel has no field sideways in struct list_head");
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let whole = fs::read(PATH).unwrap();
        for length in [0, 1, 2, 8, 23, 24, 1_000, whole.len() / 2] {
            let cut = find(&whole[..length], [NEXT]);
            assert!(matches!(cut, Err(LayoutError::Form)), "{length}: {cut:?}");
        }
    }
}
