use super::SecretsError;
use nix::fcntl::{Flock, FlockArg};
use ownership::reattach::{SECRET_LENGTH, Secret, Secrets};
use rand::{TryRngCore, rngs::OsRng};
use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};
use zeroize::Zeroizing;

/// The permissions that others have none of.
const OTHERS: u32 = 0o077;

/// How many secrets are live while one replaces the other.
const LIVE: usize = 2;

/// A file of secrets: a line for each live one, the one in force first, with its number and 64 hexadecimal
/// digits; and the number of one that was revoked, if it is the highest, so that it is not used again.
#[derive(Debug)]
pub struct SecretsFile {
    /// One or two.
    live: Vec<Line>,
    revoked: Option<u16>,
}

struct Line {
    number: u16,
    bytes: Zeroizing<[u8; SECRET_LENGTH]>,
}

impl SecretsFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it is missing, cannot be read, can be read by others, or makes no sense.
    pub fn read(path: &Path) -> Result<Self, SecretsError> {
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => SecretsError::Missing(path.to_owned()),
            _ => SecretsError::io(path, error),
        };
        let mut file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(SecretsError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        io::Read::read_to_string(&mut file, &mut text).map_err(io)?;
        let garbled = |line| SecretsError::Garbled { path: path.to_owned(), line };
        Self::parse(&text).map_err(garbled)
    }

    /// Makes a file with the first secret, unless somebody else has just made it: then it is read.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn make(path: &Path) -> Result<Self, SecretsError> {
        let change = Change::begin(path)?;
        match Self::read(path) {
            Err(SecretsError::Missing(_)) => {}
            read => return read,
        }
        let first = Self { live: vec![Line::draw(1, path)?], revoked: None };
        change.write(&first)?;
        Ok(first)
    }

    /// Draws the next secret and puts it in force; the one before stays good until the next time. Makes the
    /// file if it is missing. Returns what there is then.
    ///
    /// # Errors
    ///
    /// If the file cannot be used. It is as it was then.
    pub fn rotate(path: &Path) -> Result<Self, SecretsError> {
        let change = Change::begin(path)?;
        let mut file = match Self::read(path) {
            Ok(file) => file,
            Err(SecretsError::Missing(_)) => Self { live: Vec::new(), revoked: None },
            Err(error) => return Err(error),
        };
        let highest = file.live.iter().map(|line| line.number).chain(file.revoked).max();
        let number = match highest {
            None => 1,
            Some(highest) => highest.checked_add(1).ok_or(SecretsError::LastNumber(highest))?,
        };
        file.live.insert(0, Line::draw(number, path)?);
        file.live.truncate(LIVE);
        file.revoked = None;
        change.write(&file)?;
        Ok(file)
    }

    /// Revokes one of two live secrets: nobody who has only keys of that one is answered any more. Returns
    /// what there is then.
    ///
    /// # Errors
    ///
    /// If it is not live, or the only one, or the file cannot be used. It is as it was then.
    pub fn revoke(path: &Path, number: u16) -> Result<Self, SecretsError> {
        let change = Change::begin(path)?;
        let mut file = Self::read(path)?;
        match &file.live[..] {
            [only] if only.number == number => return Err(SecretsError::OnlyOne(number)),
            live if live.iter().all(|line| line.number != number) => {
                return Err(SecretsError::NotLive(number));
            }
            _ => file.live.retain(|line| line.number != number),
        }
        let is_highest = file.live.iter().all(|line| line.number < number);
        file.revoked = Some(number).filter(|_| is_highest).or(file.revoked);
        change.write(&file)?;
        Ok(file)
    }

    /// The numbers of the live ones, the one in force first.
    pub fn numbers(&self) -> Vec<u16> {
        self.live.iter().map(|line| line.number).collect()
    }

    /// The secrets.
    pub fn secrets(&self) -> Secrets {
        // The one in force stands first, and is added last.
        let mut oldest_first = self.live.iter().rev().map(Line::secret);
        let mut secrets = Secrets::new(oldest_first.next().expect("a file has one at least"));
        for secret in oldest_first {
            secrets.rotate(secret).expect("no two lines have one number");
        }
        secrets
    }

    /// On garbage the number of its line, from 1 on.
    fn parse(text: &str) -> Result<Self, usize> {
        let mut file = Self { live: Vec::new(), revoked: None };
        for (at, line) in text.lines().enumerate() {
            file.take(line).ok_or(at + 1)?;
        }
        if file.live.is_empty() { Err(1) } else { Ok(file) }
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (number, rest) = line.split_once(' ')?;
        let number: u16 = number.parse().ok()?;
        if self.live.iter().any(|line| line.number == number) {
            return None;
        }
        if rest == "revoked" {
            return self.revoked.replace(number).is_none().then_some(());
        }
        if self.live.len() == LIVE || self.revoked.is_some() || rest.len() != 2 * SECRET_LENGTH {
            return None;
        }
        let mut bytes = Zeroizing::new([0; SECRET_LENGTH]);
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = rest.get(2 * at..2 * at + 2)?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        }
        self.live.push(Line { number, bytes });
        Some(())
    }

    fn text(&self) -> Zeroizing<String> {
        // Room for all of it, so that nothing is left behind where it grew.
        let mut text = Zeroizing::new(String::with_capacity((LIVE + 1) * 80));
        for Line { number, bytes } in &self.live {
            let _never = write!(text, "{number} ");
            for byte in bytes.iter() {
                let _never = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
        if let Some(number) = self.revoked {
            let _never = writeln!(text, "{number} revoked");
        }
        text
    }
}

impl Line {
    fn draw(number: u16, path: &Path) -> Result<Self, SecretsError> {
        let mut bytes = Zeroizing::new([0; SECRET_LENGTH]);
        let drawn = OsRng.try_fill_bytes(&mut *bytes);
        drawn.map_err(|error| SecretsError::io(path, io::Error::other(error)))?;
        Ok(Self { number, bytes })
    }

    fn secret(&self) -> Secret {
        Secret::new(self.number, &self.bytes)
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.number)
    }
}

/// The right to change a file: of several that want to, one after the other does.
struct Change<'a> {
    path: &'a Path,
    folder: Flock<File>,
}

impl<'a> Change<'a> {
    fn begin(path: &'a Path) -> Result<Self, SecretsError> {
        let io = |error| SecretsError::io(path, error);
        let folder = path.parent().unwrap_or(Path::new("/"));
        let folder = File::open(folder).map_err(io)?;
        let folder = Flock::lock(folder, FlockArg::LockExclusive);
        Ok(Self { path, folder: folder.map_err(|(_, error)| io(error.into()))? })
    }

    /// Whoever reads meanwhile sees all of the old or all of the new.
    fn write(self, file: &SecretsFile) -> Result<(), SecretsError> {
        let io = |error| SecretsError::io(self.path, error);
        let next = self.path.with_extension("next");
        // What an interrupted change has left, with whatever permissions.
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let mut written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next).map_err(io)?;
        written.write_all(file.text().as_bytes()).map_err(io)?;
        written.sync_all().map_err(io)?;
        fs::rename(&next, self.path).map_err(io)?;
        self.folder.sync_all().map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ownership::SessionId;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    fn put(path: &Path, text: &str) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
    }

    fn keys(secrets: &Secrets, number: u16) -> Option<Vec<u8>> {
        let credentials = |secret: &Secret| secret.credentials(SessionId::new([7; 16]), 3);
        secrets.find(number).map(credentials).map(|credentials| credentials.bytes().to_vec())
    }

    #[test]
    fn the_next_one_is_in_force_and_the_one_before_is_good_until_the_next_time() {
        let folder = folder();
        let path = folder.path().join("secrets");
        let first = SecretsFile::make(&path).expect("made").secrets();
        assert_eq!((first.current().number(), mode(&path)), (1, 0o600));
        let again = SecretsFile::make(&path).expect("read").secrets();
        assert_eq!(keys(&first, 1), keys(&again, 1), "it is there already");
        for next in 2..5 {
            let before = SecretsFile::read(&path).expect("read").secrets();
            assert_eq!(SecretsFile::rotate(&path).expect("rotated").numbers(), [next, next - 1]);
            let after = SecretsFile::read(&path).expect("read").secrets();
            assert_eq!(after.current().number(), next);
            assert_eq!(keys(&after, next - 1), keys(&before, next - 1));
            assert!(after.find(next - 2).is_none());
            assert_eq!(mode(&path), 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing is left over");
    }

    #[test]
    fn a_revoked_number_is_never_used_again() {
        let folder = folder();
        let path = folder.path().join("secrets");
        assert_eq!(SecretsFile::rotate(&path).expect("made").numbers(), [1]);
        assert!(matches!(SecretsFile::revoke(&path, 1), Err(SecretsError::OnlyOne(1))));
        SecretsFile::rotate(&path).expect("rotated");
        assert!(matches!(SecretsFile::revoke(&path, 3), Err(SecretsError::NotLive(3))));
        assert_eq!(SecretsFile::revoke(&path, 2).expect("revoked").numbers(), [1]);
        assert_eq!(SecretsFile::rotate(&path).expect("rotated").numbers(), [3, 1]);
        assert_eq!(SecretsFile::revoke(&path, 1).expect("revoked").numbers(), [3]);
        assert_eq!(SecretsFile::rotate(&path).expect("rotated").numbers(), [4, 3]);
    }

    #[test]
    fn numbers_end_instead_of_wrapping() {
        let folder = folder();
        let path = folder.path().join("secrets");
        put(&path, &format!("65535 {}\n", "ab".repeat(32)));
        assert!(matches!(SecretsFile::rotate(&path), Err(SecretsError::LastNumber(65_535))));
        assert_eq!(SecretsFile::read(&path).expect("read").numbers(), [65_535]);
    }

    #[test]
    fn what_others_can_read_is_no_secret() {
        let folder = folder();
        let path = folder.path().join("secrets");
        SecretsFile::make(&path).expect("made");
        for mode in [0o640, 0o604, 0o660, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            let error = SecretsFile::read(&path).expect_err("refused");
            assert!(matches!(error, SecretsError::Exposed { .. }), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("set");
        SecretsFile::read(&path).expect("nobody else can");
    }

    #[test]
    fn garbage_is_refused_with_its_line() {
        let folder = folder();
        let path = folder.path().join("secrets");
        let digits = "0f".repeat(32);
        let (one, two) = (format!("1 {digits}\n"), format!("2 {digits}\n"));
        let short = &digits[1..];
        for (text, at) in [
            (String::new(), 1),
            (digits.clone(), 1),
            (format!("1 {short}"), 1),
            (format!("1 {short}g"), 1),
            (format!("1 +{short}"), 1),
            (format!("65536 {digits}"), 1),
            (format!("{one}{one}"), 2),
            (format!("{two}{one}3 {digits}\n"), 3),
            (format!("{one}1 revoked\n"), 2),
            (format!("{one}3 revoked\n2 revoked\n"), 3),
            ("1 revoked\n".to_owned(), 1),
            (format!("{one}\n"), 2),
        ] {
            put(&path, &text);
            let error = SecretsFile::read(&path).expect_err("refused");
            let found = match error {
                SecretsError::Garbled { line, .. } => line,
                other => panic!("{other}"),
            };
            assert_eq!(found, at, "{text:?}");
        }
        put(&path, &format!("{two}{one}7 revoked\n"));
        assert_eq!(SecretsFile::read(&path).expect("read").numbers(), [2, 1]);
    }

    #[test]
    fn nothing_of_it_shows() {
        let folder = folder();
        let file = SecretsFile::make(&folder.path().join("secrets")).expect("made");
        assert_eq!(format!("{file:?}"), "SecretsFile { live: [1], revoked: None }");
    }
}
