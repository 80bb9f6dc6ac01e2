use std::fs::{File, Metadata};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::AppCredentials;
use super::text;
use crate::error::{Error, Result};

/// A file that was changed within this time may change again without its marks showing it: the clocks of file systems are
/// that coarse.
const UNSETTLED: Duration = Duration::from_secs(2);

/// A file with credentials, read anew whenever its marks change: rewritten, replaced, or reached by another link.
pub(super) struct CredentialFile {
    pub(super) path: PathBuf,
    pub(super) readable_by_others: bool,
    /// What an API key in it must begin with.
    pub(super) key_prefix: Option<String>,
    /// Of what was read last.
    marks: Mutex<Option<Marks>>,
}

impl CredentialFile {
    pub(super) fn new(path: PathBuf, readable_by_others: bool) -> Self {
        Self { path, readable_by_others, key_prefix: None, marks: Mutex::default() }
    }

    /// Whether there may be something new. One look at the file's marks, without reading it.
    pub(super) fn may_have_changed(&self) -> bool {
        let marks = *self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = std::fs::metadata(&self.path).ok().map(|metadata| Marks::of(&metadata));
        marks.is_none() || marks != now
    }

    /// Reads the file, if nobody else could have.
    pub(super) fn read(&self) -> Result<AppCredentials> {
        let read = self.read_marked();
        let marks = read.as_ref().ok().and_then(|(_, marks)| *marks);
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner) = marks;
        read.map(|(credentials, _)| credentials).map_err(|error| self.named(error))
    }

    fn named(&self, error: Error) -> Error {
        error.prefixed(format_args!("the credentials file {}", self.path.display()))
    }

    fn read_marked(&self) -> Result<(AppCredentials, Option<Marks>)> {
        let unreadable = |error| Error::configuration("it cannot be read").with_source(error);
        // Asked before it is opened: a pipe would have the opening wait.
        if !std::fs::metadata(&self.path).map_err(unreadable)?.is_file() {
            return Err(Error::configuration("it is no regular file"));
        }
        let mut file = File::open(&self.path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        self.check_access(&metadata)?;
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if length > text::LONGEST {
            return Err(Error::configuration(format!("it is longer than {} bytes", text::LONGEST)));
        }
        // One byte more than there should be, so that the buffer never grows and leaves unwiped copies behind.
        let mut bytes = Zeroizing::new(vec![0; length + 1]);
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read(rest).map_err(unreadable)? {
                0 => break,
                more => read += more,
            }
        }
        if read != length {
            return Err(Error::configuration("it was changed while it was read"));
        }
        let text = str::from_utf8(bytes.get(..read).unwrap_or_default())
            .map_err(|_| Error::configuration("it is not Unicode (UTF-8)"))?;
        let credentials = text::parse(text, self.key_prefix.as_deref())?;
        Ok((credentials, Some(Marks::of(&metadata)).filter(Marks::settled)))
    }

    #[cfg(unix)]
    fn check_access(&self, metadata: &Metadata) -> Result<()> {
        use std::os::unix::fs::MetadataExt;

        let we = rustix::process::geteuid().as_raw();
        match exposure(metadata.mode() & 0o777, metadata.uid(), we, self.readable_by_others) {
            None => Ok(()),
            Some(problem) => Err(Error::configuration(problem).advice(
                "`chmod 600` it; where a mount rules that, as in Kubernetes, set its mode there or take \
                 `CredentialSource::file_readable_by_others`",
            )),
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
    fn check_access(&self, _: &Metadata) -> Result<()> {
        Ok(())
    }
}

/// What is unsafe in a file of this mode and owner.
#[cfg(unix)]
fn exposure(mode: u32, owner: u32, we: u32, readable_by_others: bool) -> Option<String> {
    /// What group and others may do, and others alone.
    const WRITE: u32 = 0o022;
    const READ: u32 = 0o044;
    const READ_OTHERS: u32 = 0o004;

    // Root can let us read its files by our group only, as Kubernetes does with `fsGroup`.
    let read = if owner == we { READ } else { READ_OTHERS };
    if mode & WRITE != 0 {
        Some(format!("others than its owner can write it (mode {mode:04o})"))
    } else if readable_by_others {
        None
    } else if owner != we && owner != 0 {
        Some(format!("it belongs to another user ({owner}, and we are {we})"))
    } else {
        (mode & read != 0).then(|| format!("others than its owner can read it (mode {mode:04o})"))
    }
}

/// By what a file is known to be the same, unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, inode, mode, owner, and the time of the last change of any of it, which cannot be set by hand.
    #[cfg(unix)]
    inode: (u64, u64, u32, u32, i64, i64),
}

impl Marks {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;

        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: (
                metadata.dev(),
                metadata.ino(),
                metadata.mode(),
                metadata.uid(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ),
        }
    }

    /// Whether a later change is sure to show.
    fn settled(&self) -> bool {
        let old = |time: SystemTime| time.elapsed().is_ok_and(|age| age >= UNSETTLED);
        #[cfg(unix)]
        let changed =
            u64::try_from(self.inode.4).map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        #[cfg(unix)]
        return self.modified.is_some_and(old) && changed.is_ok_and(old);
        #[cfg(not(unix))]
        self.modified.is_some_and(old)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::error::ErrorKind;
    use crate::secret::ExposeSecret;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("evertoken-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, mode: u32, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            set_mode(&path, mode);
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn age(path: &Path, seconds: u64) {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }

    const GOOD: &str = "APP_ID=a\nAPP_SECRET=h1dden\n";

    #[test]
    fn who_else_may_read_or_write_it_is_looked_at() {
        let folder = Folder::new("access");
        for (mode, strict, lenient) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o640, false, true),
            (0o604, false, true),
            (0o444, false, true),
            (0o620, false, false),
            (0o602, false, false),
            (0o666, false, false),
        ] {
            let path = folder.file("secret", 0o600, GOOD);
            set_mode(&path, mode);
            for (readable_by_others, fine) in [(false, strict), (true, lenient)] {
                let read = CredentialFile::new(path.clone(), readable_by_others).read();
                assert_eq!(read.is_ok(), fine, "{mode:o} {readable_by_others}");
                if let Err(error) = read {
                    let text = error.to_string();
                    assert_eq!(error.kind(), ErrorKind::Configuration);
                    assert!(text.contains("chmod 600") && text.contains(&format!("{mode:04o}")), "{text}");
                    assert!(text.contains("secret") && text.contains("file_readable_by_others"), "{text}");
                }
            }
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn whose_it_is_counts_too() {
        const WE: u32 = 1000;
        for (mode, owner, strict, lenient) in [
            (0o600, WE, true, true),
            (0o640, WE, false, true),
            (0o600, 1001, false, true),
            (0o444, 1001, false, true),
            (0o440, 0, true, true),
            (0o444, 0, false, true),
            (0o460, 0, false, false),
            (0o602, WE, false, false),
        ] {
            assert_eq!(exposure(mode, owner, WE, false).is_none(), strict, "{mode:o} {owner}");
            assert_eq!(exposure(mode, owner, WE, true).is_none(), lenient, "{mode:o} {owner}");
        }
        assert!(exposure(0o440, 0, 0, false).is_some(), "root itself needs no group");
    }

    #[test]
    fn what_is_no_file_of_credentials_is_named() {
        let folder = Folder::new("kinds");
        let long = "#".repeat(text::LONGEST + 1);
        for (path, said) in [
            (folder.0.join("nowhere"), "cannot be read"),
            (folder.0.clone(), "no regular file"),
            (folder.file("long", 0o600, &long), "longer than 65536"),
            (folder.file("empty", 0o600, ""), "it is empty"),
            (folder.file("torn", 0o600, "{\"app_secret\":\"h1dden"), "no valid JSON"),
        ] {
            let error = CredentialFile::new(path.clone(), false).read().unwrap_err();
            let text = error.to_string();
            assert!(text.contains(said) && text.contains(&path.display().to_string()), "{text}");
            assert!(!format!("{error:?}").contains("h1dden"), "{error:?}");
        }
        let path = folder.file("latin", 0o600, "");
        std::fs::write(&path, b"APP_ID=\xe9").unwrap();
        let error = CredentialFile::new(path, false).read().unwrap_err();
        assert!(error.to_string().contains("UTF-8"), "{error}");
    }

    #[test]
    fn a_file_that_rests_is_not_read_again_and_every_change_shows() {
        let folder = Folder::new("marks");
        let path = folder.file("secret", 0o600, GOOD);
        let file = CredentialFile::new(path.clone(), false);
        assert!(file.may_have_changed(), "it was never read");
        assert_eq!(file.read().unwrap().app_secret.expose_secret(), "h1dden");
        assert!(file.may_have_changed(), "it is too young to tell");
        let marks = |length: u64, age: u64| {
            let then = SystemTime::now() - Duration::from_secs(age);
            let seconds = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            Marks { length, modified: Some(then), inode: (0, 0, 0, 0, i64::try_from(seconds).unwrap(), 0) }
        };
        assert!(marks(1, 3).settled() && !marks(1, 0).settled());
        // As if it had been read long after its last change.
        let settle = || {
            let now = Marks::of(&std::fs::metadata(&path).unwrap());
            *file.marks.lock().unwrap() = Some(now);
            assert!(!file.may_have_changed());
        };
        settle();
        std::fs::write(&path, "APP_ID=a\nAPP_SECRET=anoth3r\n").unwrap();
        assert!(file.may_have_changed(), "rewritten in place");
        settle();
        let other = folder.file("other", 0o600, "APP_ID=a\nAPP_SECRET=anoth3s\n");
        age(&other, 100);
        std::fs::rename(&other, &path).unwrap();
        assert!(file.may_have_changed(), "renamed over");
        settle();
        set_mode(&path, 0o644);
        assert!(file.may_have_changed(), "opened to all");
        std::fs::remove_file(&path).unwrap();
        assert!(file.may_have_changed(), "gone");
    }

    #[test]
    fn links_are_followed_as_kubernetes_swaps_them() {
        let folder = Folder::new("links");
        for (version, secret) in [("one", "first"), ("two", "second")] {
            std::fs::create_dir(folder.0.join(version)).unwrap();
            folder.file(&format!("{version}/secret"), 0o600, &format!("APP_ID=a\nAPP_SECRET={secret}"));
        }
        symlink("one", folder.0.join("..data")).unwrap();
        symlink("..data/secret", folder.0.join("secret")).unwrap();
        let file = CredentialFile::new(folder.0.join("secret"), false);
        assert_eq!(file.read().unwrap().app_secret.expose_secret(), "first");
        *file.marks.lock().unwrap() = Some(Marks::of(&std::fs::metadata(&file.path).unwrap()));
        assert!(!file.may_have_changed());
        symlink("two", folder.0.join("..next")).unwrap();
        std::fs::rename(folder.0.join("..next"), folder.0.join("..data")).unwrap();
        assert!(file.may_have_changed());
        assert_eq!(file.read().unwrap().app_secret.expose_secret(), "second");
    }
}
