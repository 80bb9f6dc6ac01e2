//! Credentials in files: all in one, a file for each value, or a directory of such files. Who may read them, which version
//! they are of, and whether they have changed is decided here; what they say is `text.rs`'s matter.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::AppCredentials;
use super::text::{self, Field, Fields, Text};
use crate::error::{Error, Result};

/// A file that was changed within this time may change again without its marks showing it: the clocks of file systems are
/// that coarse.
const UNSETTLED: Duration = Duration::from_secs(2);
/// How often files are read again that changed while they were read.
const READINGS: usize = 3;

/// Files with credentials, read anew whenever their marks change: rewritten, replaced, or reached by another link.
pub(super) struct CredentialFiles {
    pub(super) layout: Layout,
    pub(super) readable_by_others: bool,
    /// What an API key in them must begin with.
    pub(super) key_prefix: Option<String>,
    /// What lets others read the files: the variable, if one named them.
    pub(super) switch: Option<String>,
    /// Of what was read last.
    marks: Mutex<Option<Version>>,
}

/// Where which value stands.
pub(super) enum Layout {
    /// JSON or lines.
    Whole(Place),
    Parts(Vec<(Field, Part)>),
    /// The names of its files say which is which.
    Directory(Place),
}

pub(super) enum Part {
    Given(Text),
    File(Place),
    /// A file that need not be there.
    Optional(Place),
}

/// A path, and the environment variable that named it.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) variable: Option<String>,
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self { path, variable: None }
    }
}

/// A variable that should name a file may hold the secret itself by mistake. What does not look like a path is
/// not shown.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.variable {
            None => path.fmt(f),
            Some(variable) => {
                let has_folder = self.path.parent().is_some_and(|parent| parent.parent().is_some());
                let is_plain = self.path.is_absolute() && !self.path.to_string_lossy().contains(['+', '=']);
                let is_path = has_folder && is_plain || self.path.exists();
                if is_path { write!(f, "{path} ({variable})") } else { write!(f, "that {variable} names") }
            }
        }
    }
}

/// Why there are no credentials.
#[derive(Debug)]
pub(super) enum Unread {
    /// They may come to be there.
    NotYet(Error),
    /// Somebody has to do something.
    Unsafe(Error),
}

impl Unread {
    fn map(self, change: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::NotYet(error) => Self::NotYet(change(error)),
            Self::Unsafe(error) => Self::Unsafe(change(error)),
        }
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self::NotYet(error)
    }
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::NotYet(error) | Unread::Unsafe(error) => error,
        }
    }
}

/// The marks of all files. Those that are not there have none.
type Version = BTreeMap<PathBuf, Option<Marks>>;

impl CredentialFiles {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, readable_by_others: false, key_prefix: None, switch: None, marks: Mutex::default() }
    }

    /// Whether there may be something new. One look at the marks, without reading the files.
    pub(super) fn may_have_changed(&self) -> bool {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        marks.is_none_or(|marks| marks != self.layout.version())
    }

    /// Whether values can be replaced one after the other.
    pub(super) fn is_many(&self) -> bool {
        !matches!(self.layout, Layout::Whole(_))
    }

    /// Whether the last change is a while ago.
    pub(super) fn is_settled(&self) -> bool {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether a value for this field is expected, as far as that can be known without reading.
    pub(super) fn may_have(&self, field: Field) -> bool {
        match &self.layout {
            Layout::Parts(parts) => parts.iter().any(|(known, _)| *known == field),
            Layout::Whole(_) | Layout::Directory(_) => true,
        }
    }

    /// Reads the files, if nobody else could have. What is read is of one version: all of it was there at one moment.
    pub(super) fn read(&self) -> Result<AppCredentials, Unread> {
        let read = self.read_consistently();
        let settled = |version: &Version| version.values().flatten().all(Marks::settled);
        let (outcome, marks) = match read {
            Ok((credentials, version)) => (Ok(credentials), Some(version).filter(settled)),
            Err(unread) => (Err(unread), None),
        };
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner) = marks;
        outcome
    }

    fn read_consistently(&self) -> Result<(AppCredentials, Version), Unread> {
        for _ in 0..READINGS {
            let (fields, version) = self.read_once()?;
            // Each file is still what it was when it was read, so all of them were at the time of the last reading.
            if self.layout.version() == version {
                let credentials = match fields {
                    Content::Whole(text) => text::parse(&text, self.key_prefix.as_deref()),
                    Content::Fields(fields) => fields.into_credentials(self.key_prefix.as_deref()),
                };
                return Ok((credentials.map_err(|error| error.prefixed(&self.layout))?, version));
            }
        }
        Err(Error::configuration("changed while it was read").prefixed(&self.layout).into())
    }

    fn read_once(&self) -> Result<(Content, Version), Unread> {
        let mut version = Version::new();
        let mut read = |place: &Place| {
            let read = self.read_file(&place.path);
            let (text, marks) = read.map_err(|unread| {
                unread.map(|error| error.prefixed(format_args!("the credentials file {place}")))
            })?;
            version.insert(place.path.clone(), Some(marks));
            Ok::<_, Unread>(text)
        };
        let mut fields = Fields::default();
        match &self.layout {
            Layout::Whole(place) => {
                let text = read(place)?;
                return Ok((Content::Whole(text), version));
            }
            Layout::Parts(parts) => {
                let mut absent = Vec::new();
                for (field, part) in parts {
                    let (value, name) = match part {
                        Part::Given(text) => (text.clone(), String::new()),
                        Part::Optional(place) if std::fs::metadata(&place.path).is_err() => {
                            absent.push(place.path.clone());
                            continue;
                        }
                        Part::File(place) | Part::Optional(place) => {
                            (one_value(&read(place)?), place.to_string())
                        }
                    };
                    if value.is_empty() && !matches!(part, Part::Optional(_)) {
                        let empty = Error::configuration("it is empty");
                        return Err(empty.prefixed(format_args!("the credentials file {name}")).into());
                    }
                    fields.add(*field, &name, value).map_err(|error| error.prefixed(&self.layout))?;
                }
                version.extend(absent.into_iter().map(|path| (path, None)));
            }
            Layout::Directory(place) => {
                let files = files_in(&place.path).map_err(cannot_be_read);
                for (field, name, path) in
                    files.map_err(|unread| unread.map(|error| error.prefixed(&self.layout)))?
                {
                    let value = one_value(&read(&path.into())?);
                    fields.add(field, &name, value).map_err(|error| error.prefixed(&self.layout))?;
                }
            }
        }
        Ok((Content::Fields(fields), version))
    }

    fn read_file(&self, path: &Path) -> Result<(Text, Marks), Unread> {
        let unreadable = |error| cannot_be_read(error);
        // Asked before it is opened: a pipe would have the opening wait.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(Unread::Unsafe(Error::configuration("it is no regular file")));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        self.check_access(&metadata).map_err(Unread::Unsafe)?;
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if length > text::LONGEST {
            return Err(Error::configuration(format!("it is longer than {} bytes", text::LONGEST)).into());
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
            return Err(Error::configuration("it was changed while it was read").into());
        }
        let text = str::from_utf8(bytes.get(..read).unwrap_or_default())
            .map_err(|_| Error::configuration("it is not Unicode (UTF-8)"))?;
        Ok((Zeroizing::new(text.to_owned()), Marks::of(&metadata)))
    }

    #[cfg(unix)]
    fn check_access(&self, metadata: &Metadata) -> Result<()> {
        use std::os::unix::fs::MetadataExt;

        let we = rustix::process::geteuid().as_raw();
        match exposure(metadata.mode() & 0o777, metadata.uid(), we, self.readable_by_others) {
            None => Ok(()),
            Some(problem) => Err(Error::configuration(problem).advice(match &self.switch {
                Some(variable) => format!(
                    "`chmod 600` it; if a mount rules that, as in Kubernetes, set its mode there or set {variable}=true"
                ),
                None => "`chmod 600` it; if a mount rules that, as in Kubernetes, set its mode there or use \
                         `CredentialSource::readable_by_others`"
                    .to_owned(),
            })),
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
    fn check_access(&self, _: &Metadata) -> Result<()> {
        Ok(())
    }
}

enum Content {
    Whole(Text),
    Fields(Fields),
}

impl Layout {
    /// The marks of all files as they are now.
    fn version(&self) -> Version {
        let marks = |path: &Path| std::fs::metadata(path).ok().map(|metadata| Marks::of(&metadata));
        let entry = |path: PathBuf| {
            let marks = marks(&path);
            (path, marks)
        };
        match self {
            Self::Whole(place) => Version::from([entry(place.path.clone())]),
            Self::Parts(parts) => {
                let paths = parts.iter().filter_map(|(_, part)| match part {
                    Part::Given(_) => None,
                    Part::File(place) | Part::Optional(place) => Some(place.path.clone()),
                });
                paths.map(entry).collect()
            }
            Self::Directory(place) => {
                let files = files_in(&place.path).unwrap_or_default();
                files.into_iter().map(|(_, _, path)| entry(path)).collect()
            }
        }
    }
}

/// How messages and logs name it.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(place) => write!(f, "the credentials file {place}"),
            Self::Directory(place) => write!(f, "the credentials directory {place}"),
            Self::Parts(parts) => {
                let files = parts.iter().filter_map(|(_, part)| match part {
                    Part::Given(_) | Part::Optional(_) => None,
                    Part::File(place) => Some(place.to_string()),
                });
                write!(f, "the credentials files {}", files.collect::<Vec<_>>().join(" and "))
            }
        }
    }
}

/// The files of a directory whose names are those of fields, in the order of their names. Hidden ones are those of whoever
/// fills the directory, as Kubernetes does.
fn files_in(directory: &Path) -> std::io::Result<Vec<(Field, String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let field = Field::named(&name).filter(|_| !name.starts_with('.'));
        // A link that leads nowhere is on its way to be removed.
        let field = field.filter(|_| std::fs::metadata(entry.path()).is_ok());
        files.extend(field.map(|field| (field, name, entry.path())));
    }
    files.sort_by(|one, other| one.1.cmp(&other.1));
    Ok(files)
}

/// The content of a file that holds one value. Text files end with a line end, so one is no part of it.
fn one_value(text: &str) -> Text {
    let value = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Zeroizing::new(value.to_owned())
}

fn cannot_be_read(error: std::io::Error) -> Unread {
    let said = Error::configuration(format!("it cannot be read: {error}"));
    match error.kind() {
        IoErrorKind::PermissionDenied => {
            Unread::Unsafe(said.with_source(error).advice("let the user that runs this program read it"))
        }
        IoErrorKind::NotADirectory => {
            Unread::Unsafe(said.with_source(error).advice("check the path: a part of it is no directory"))
        }
        _ => Unread::NotYet(said.with_source(error)),
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
pub(super) struct Marks {
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
    use super::*;
    use crate::error::ErrorKind;
    use crate::secret::ExposeSecret;
    use std::os::unix::fs::{PermissionsExt, symlink};

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

    fn whole(path: PathBuf) -> CredentialFiles {
        CredentialFiles::new(Layout::Whole(path.into()))
    }

    /// What was read is noted as if that had been long after its last change.
    fn settle(files: &CredentialFiles) {
        *files.marks.lock().unwrap() = Some(files.layout.version());
        assert!(!files.may_have_changed());
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
                let mut files = whole(path.clone());
                files.readable_by_others = readable_by_others;
                let read = files.read();
                assert_eq!(read.is_ok(), fine, "{mode:o} {readable_by_others}");
                if let Err(unread) = read {
                    let Unread::Unsafe(error) = unread else { panic!("{mode:o} is waited for") };
                    let text = error.to_string();
                    assert_eq!(error.kind(), ErrorKind::Configuration);
                    assert!(text.contains("chmod 600") && text.contains(&format!("{mode:04o}")), "{text}");
                    assert!(text.contains("secret") && text.contains("::readable_by_others"), "{text}");
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
            let unread = whole(path.clone()).read().unwrap_err();
            assert_eq!(matches!(unread, Unread::Unsafe(_)), said == "no regular file", "{unread:?}");
            let error = Error::from(unread);
            let text = error.to_string();
            assert!(text.contains(said) && text.contains(&path.display().to_string()), "{text}");
            assert!(!format!("{error:?}").contains("h1dden"), "{error:?}");
        }
        let path = folder.file("latin", 0o600, "");
        std::fs::write(&path, b"APP_ID=\xe9").unwrap();
        let error = Error::from(whole(path).read().unwrap_err());
        assert!(error.to_string().contains("UTF-8"), "{error}");
    }

    #[test]
    fn a_file_that_rests_is_not_read_again_and_every_change_shows() {
        let folder = Folder::new("marks");
        let path = folder.file("secret", 0o600, GOOD);
        let file = whole(path.clone());
        assert!(file.may_have_changed(), "it was never read");
        assert_eq!(file.read().unwrap().app_secret.expose_secret(), "h1dden");
        assert!(file.may_have_changed(), "it is too young to tell");
        let marks = |length: u64, age: u64| {
            let then = SystemTime::now() - Duration::from_secs(age);
            let seconds = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            Marks { length, modified: Some(then), inode: (0, 0, 0, 0, i64::try_from(seconds).unwrap(), 0) }
        };
        assert!(marks(1, 3).settled() && !marks(1, 0).settled());
        settle(&file);
        std::fs::write(&path, "APP_ID=a\nAPP_SECRET=anoth3r\n").unwrap();
        assert!(file.may_have_changed(), "rewritten in place");
        settle(&file);
        let other = folder.file("other", 0o600, "APP_ID=a\nAPP_SECRET=anoth3s\n");
        age(&other, 100);
        std::fs::rename(&other, &path).unwrap();
        assert!(file.may_have_changed(), "renamed over");
        settle(&file);
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
        let file = whole(folder.0.join("secret"));
        assert_eq!(file.read().unwrap().app_secret.expose_secret(), "first");
        settle(&file);
        symlink("two", folder.0.join("..next")).unwrap();
        std::fs::rename(folder.0.join("..next"), folder.0.join("..data")).unwrap();
        assert!(file.may_have_changed());
        assert_eq!(file.read().unwrap().app_secret.expose_secret(), "second");
    }

    fn read(files: &CredentialFiles) -> [String; 3] {
        let AppCredentials { app_id, app_secret, next_secret } = files.read().unwrap();
        [
            app_id,
            app_secret.expose_secret().into(),
            next_secret.map(|next| next.expose_secret().into()).unwrap_or_default(),
        ]
    }

    #[test]
    fn a_directory_has_a_file_for_each_value_by_any_usual_name() {
        for (id, secret, next) in [
            ("client_id", "client_secret", "client_secret_next"),
            ("clientId", "clientSecret", "nextClientSecret"),
            ("CLIENT_ID", "APP_SECRET", "APP_SECRET_NEXT"),
            ("client-id", "client-secret", "next-app-secret"),
            ("app_id", "app_secret", "next_app_secret"),
            ("EVERTOKEN_APP_ID", "EVERTOKEN_APP_SECRET", "EVERTOKEN_APP_SECRET_NEXT"),
        ] {
            let folder = Folder::new("directory");
            folder.file(id, 0o600, "a\r\n");
            folder.file(secret, 0o600, " s \n");
            folder.file("tls.crt", 0o600, "other");
            folder.file(".client_id", 0o600, "hidden");
            let files = CredentialFiles::new(Layout::Directory(folder.0.clone().into()));
            assert_eq!(read(&files), ["a", " s ", ""], "{id}");
            settle(&files);
            folder.file(next, 0o600, "n");
            assert!(files.may_have_changed(), "a file was added");
            assert_eq!(read(&files), ["a", " s ", "n"], "{next}");
            settle(&files);
            std::fs::remove_file(folder.0.join(next)).unwrap();
            assert!(files.may_have_changed(), "a file was removed");
        }
    }

    #[test]
    fn a_directory_that_contradicts_itself_or_lacks_something_is_named() {
        let folder = Folder::new("contradiction");
        let files = CredentialFiles::new(Layout::Directory(folder.0.clone().into()));
        let error = || Error::from(files.read().unwrap_err()).to_string();
        assert!(error().contains("no app id"), "{}", error());
        folder.file("client_id", 0o600, "a");
        folder.file("app_id", 0o600, "a\n");
        assert_eq!(read(&files)[0], "a", "the same twice is no contradiction");
        folder.file("app_id", 0o600, "h1dden");
        let text = error();
        assert!(text.contains("app_id and client_id contradict each other"), "{text}");
        assert!(text.contains(folder.0.to_str().unwrap()) && !text.contains("h1dden"), "{text}");
        std::fs::remove_file(folder.0.join("app_id")).unwrap();
        folder.file("client_secret", 0o644, "h1dden");
        let text = error();
        assert!(text.contains("client_secret: others than its owner can read it"), "{text}");
        let nowhere = CredentialFiles::new(Layout::Directory(folder.0.join("nowhere").into()));
        assert!(
            matches!(nowhere.read().unwrap_err(), Unread::NotYet(error) if error.to_string().contains("nowhere"))
        );
        let no_directory = CredentialFiles::new(Layout::Directory(folder.0.join("client_id").into()));
        assert!(matches!(no_directory.read().unwrap_err(), Unread::Unsafe(_)));
    }

    #[test]
    fn id_and_secret_are_of_one_version() {
        let folder = Folder::new("versions");
        let versions = [("one", "1"), ("two", "2")];
        for (version, n) in versions {
            std::fs::create_dir(folder.0.join(version)).unwrap();
            folder.file(&format!("{version}/id"), 0o600, &format!("id-{n}"));
            folder.file(&format!("{version}/secret"), 0o600, &format!("secret-{n}"));
        }
        let link = |version: &str| {
            symlink(version, folder.0.join("..next")).unwrap();
            std::fs::rename(folder.0.join("..next"), folder.0.join("..data")).unwrap();
        };
        link("one");
        for name in ["id", "secret"] {
            symlink(format!("..data/{name}"), folder.0.join(name)).unwrap();
        }
        let place = |name: &str| Part::File(folder.0.join(name).into());
        let parts = || vec![(Field::AppId, place("id")), (Field::AppSecret, place("secret"))];
        let files = CredentialFiles::new(Layout::Parts(parts()));
        // What was read before the link was swapped is not of the version that is there now.
        let (_, version) = files.read_once().unwrap();
        assert_eq!(version, files.layout.version());
        link("two");
        assert_ne!(version, files.layout.version());
        let done = &std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..500 {
                    versions.iter().for_each(|(version, _)| link(version));
                }
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            let mut pairs = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || pairs == 0 {
                if let Ok(AppCredentials { app_id, app_secret, .. }) = files.read() {
                    assert_eq!(app_id.replace("id", "secret"), app_secret.expose_secret());
                    pairs += 1;
                }
            }
        });
    }

    #[test]
    fn the_next_secret_may_be_absent_and_comes_and_goes() {
        let folder = Folder::new("optional");
        let file = |name: &str| folder.0.join(name).into();
        let files = CredentialFiles::new(Layout::Parts(vec![
            (Field::AppId, Part::Given(Text::new("a".to_owned()))),
            (Field::AppSecret, Part::File(file("secret"))),
            (Field::NextSecret, Part::Optional(file("next"))),
        ]));
        folder.file("secret", 0o600, "s\n");
        assert_eq!(read(&files), ["a", "s", ""]);
        settle(&files);
        folder.file("next", 0o600, "n\n");
        assert!(files.may_have_changed());
        assert_eq!(read(&files), ["a", "s", "n"]);
        folder.file("secret", 0o600, "\n");
        let error = Error::from(files.read().unwrap_err()).to_string();
        assert!(error.contains("secret: it is empty"), "{error}");
    }

    #[test]
    fn a_variable_that_holds_a_secret_in_place_of_a_path_is_not_shown() {
        let folder = Folder::new("mistaken");
        let place =
            |path: &Path| Place { path: path.into(), variable: Some("X_FILE".to_owned()) }.to_string();
        for secret in ["h1dden", "/h1dden", "h1/dden", "/h1/dden+=="] {
            assert_eq!(place(Path::new(secret)), "that X_FILE names");
        }
        let path = folder.0.join("missing");
        assert_eq!(place(&path), format!("{} (X_FILE)", path.display()));
    }
}
