//! Versions as compilers and package managers print them.

use std::fmt;

/// A version's first two numbers: all that the project's requirements are stated in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

/// The oldest Rust that compiles the project: `rust-version` of the workspace.
pub const OLDEST_RUST: Version = Version { major: 1, minor: 95 };

/// The oldest kernel that has all that the programs use.
pub const OLDEST_KERNEL: Version = Version { major: 6, minor: 6 };

impl Version {
    /// Reads the version at the start of `text`, such as `1.96.0+dfsg1-1~deb12u2` or `22.1.8`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What `rustc -vV` says of a compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// The compiler's release.
    pub release: Version,
    /// The major version of the LLVM inside: bpf-linker must be built with the same.
    pub llvm: u32,
    /// The host's target triple.
    pub host: String,
}

impl Compiler {
    /// Reads the output of `rustc -vV`.
    pub fn parse(verbose: &str) -> Option<Self> {
        let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name));
        Some(Self {
            release: Version::parse(field("release: ")?)?,
            llvm: Version::parse(field("LLVM version: ")?)?.major,
            host: field("host: ")?.to_owned(),
        })
    }
}

/// Reads the version that apt would install from the output of `apt-cache policy PACKAGE`.
pub fn apt_candidate(policy: &str) -> Option<Version> {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    // An epoch such as `1:` is no part of the upstream version.
    Version::parse(candidate.split_once(':').map_or(candidate, |(_, upstream)| upstream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_up_to_what_is_no_number() {
        let v = |major, minor| Some(Version { major, minor });
        assert_eq!(Version::parse("1.96.0+dfsg1-1~deb12u2"), v(1, 96));
        assert_eq!(Version::parse("1.97.0-nightly"), v(1, 97));
        assert_eq!(Version::parse(" 22.1.8\n"), v(22, 1));
        assert_eq!(Version::parse("(none)"), None);
        assert_eq!(Version::parse(""), None);
    }

    #[test]
    fn versions_compare_by_number_and_not_by_letter() {
        assert!(Version::parse("1.100.0") > Version::parse("1.95.0"));
        assert!(Version::parse("1.9.0") < Some(OLDEST_RUST));
    }

    #[test]
    fn a_compiler_tells_its_release_its_llvm_and_its_host() {
        let verbose = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
            binary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        let compiler = Compiler::parse(verbose).expect("all fields are there");
        assert_eq!(compiler.release, Version { major: 1, minor: 96 });
        assert_eq!(compiler.llvm, 22);
        assert_eq!(compiler.host, "x86_64-unknown-linux-gnu");
        assert_eq!(Compiler::parse("rustc 1.96.0"), None);
    }

    #[test]
    fn apt_tells_what_it_would_install() {
        let policy = |candidate: &str| {
            format!("rustc-web:\n  Installed: (none)\n  Candidate: {candidate}\n  Version table:\n")
        };
        let v = |major, minor| Some(Version { major, minor });
        assert_eq!(apt_candidate(&policy("1.96.0+dfsg1-1~deb12u2")), v(1, 96));
        assert_eq!(apt_candidate(&policy("1:22.1.8-1~deb12u1")), v(22, 1));
        assert_eq!(apt_candidate(&policy("(none)")), None);
        assert_eq!(apt_candidate(""), None);
    }
}
