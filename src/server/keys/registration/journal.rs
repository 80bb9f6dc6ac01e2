//! The file format of a [`RegistrationFile`](super::RegistrationFile): one JSON line for each change, the latest of which
//! counts for its app id. Whoever changes it holds the `Lock`; reading takes none.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::lock::beside;
use crate::secret::{self, ExposeSecret};
use crate::server::keys::KeyInfo;
use crate::server::keys::registration::Registration;
use crate::server::time::{parse_rfc3339, rfc3339};

/// A change. Without a registration, the app id is forgotten.
#[derive(Serialize, Deserialize)]
struct Change {
    app_id: String,
    registration: Option<Stored>,
}

/// How the line of a change begins: by this a torn one is known as ours.
const BEGINNING: &[u8] = br#"{"app_id":"#;

/// One registration as the file has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    customer: Option<String>,
    created: Option<String>,
    enabled: bool,
    registration_client_uri: String,
    registration_access_token: Zeroizing<String>,
}

impl From<&Registration> for Stored {
    fn from(registration: &Registration) -> Self {
        let info = &registration.info;
        Self {
            name: info.name.clone(),
            customer: info.customer.clone(),
            created: info.created.map(rfc3339),
            enabled: info.enabled,
            registration_client_uri: registration.management_url.clone(),
            registration_access_token: registration.access_token.expose_secret().to_owned().into(),
        }
    }
}

impl Stored {
    fn registration(self, app_id: String) -> Registration {
        let info = KeyInfo {
            customer: self.customer,
            created: self.created.as_deref().and_then(parse_rfc3339),
            enabled: self.enabled,
            ..KeyInfo::new(app_id, self.name)
        };
        Registration::new(info, self.registration_client_uri, self.registration_access_token.as_str())
    }
}

/// What a file holds.
#[derive(Default)]
pub(super) struct Journal {
    all: BTreeMap<String, Stored>,
    changes: usize,
    /// The length of all changes that are whole.
    length: u64,
}

impl Journal {
    pub(super) fn load(path: &Path) -> io::Result<Self> {
        let text = match fs::read(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut journal = Self::default();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Change>(line) {
                Ok(Change { app_id, registration }) => {
                    match registration {
                        Some(registration) => journal.all.insert(app_id, registration),
                        None => journal.all.remove(&app_id),
                    };
                    journal.changes += 1;
                    journal.length += line.len() as u64;
                }
                // The last one was torn by a crash before anybody was told that it is safe.
                Err(_) if is_torn(line) => {}
                Err(error) => {
                    // Its words may quote what it read.
                    let (line, column) = (journal.changes + 1, error.column());
                    let place = format!("it is not what was written (line {line}, column {column})");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, place));
                }
            }
        }
        Ok(journal)
    }

    pub(super) fn into_registrations(self) -> Vec<Registration> {
        self.all.into_iter().map(|(app_id, stored)| stored.registration(app_id)).collect()
    }

    /// Whether most of it is about what has changed since.
    fn is_stale(&self) -> bool {
        self.changes > 2 * self.all.len() + 16
    }

    /// Replaces the file by one with no more than it must have.
    fn rewrite(self, path: &Path) -> io::Result<()> {
        let random: String =
            secret::random().map_err(io::Error::other)?.iter().map(|byte| format!("{byte:02x}")).collect();
        let new = beside(path, &format!(".{random}.new"));
        let mut text = Zeroizing::new(Vec::new());
        for (app_id, stored) in self.all {
            text.extend_from_slice(&line(Change { app_id, registration: Some(stored) })?);
        }
        let written =
            private(OpenOptions::new().write(true).create_new(true)).open(&new).and_then(|mut file| {
                file.write_all(&text)?;
                file.sync_all()
            });
        if let Err(error) = written.and_then(|()| fs::rename(&new, path)) {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        sync_folder(path)
    }
}

/// Appends a change, which is on disk then. From the length `look_at` on the whole file is looked at first, and rewritten if
/// most of it is out of date; the outcome is the next such length.
pub(super) fn append(
    path: &Path,
    app_id: &str,
    registration: Option<&Registration>,
    look_at: u64,
) -> io::Result<u64> {
    let mut next_look = look_at;
    if fs::metadata(path).map_or(0, |file| file.len()) >= look_at {
        let journal = Journal::load(path)?;
        if journal.is_stale() {
            journal.rewrite(path)?;
        }
        next_look = 2 * fs::metadata(path).map_or(0, |file| file.len()) + 65_536;
    }
    let is_new = !path.exists();
    let mut file = private(OpenOptions::new().read(true).append(true).create(true)).open(path)?;
    if is_new {
        sync_folder(path)?;
    }
    let mut before = file.seek(SeekFrom::End(0))?;
    let mut text = line(Change { app_id: app_id.to_owned(), registration: registration.map(Stored::from) })?;
    if before > 0 && last_byte(&mut file)? != b'\n' {
        let whole = Journal::load(path)?.length;
        if whole == before {
            text.insert(0, b'\n');
        } else {
            file.set_len(whole)?;
            before = whole;
        }
    }
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = file.set_len(before);
    }
    written.map(|()| next_look)
}

/// Removes what a process left behind that died while it rewrote the file.
pub(super) fn remove_leftovers(path: &Path) {
    let prefix = beside(path, ".");
    let Some(prefix) = prefix.file_name().and_then(|name| name.to_str()) else { return };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(entries) = fs::read_dir(folder.unwrap_or(Path::new("."))) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let middle = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(".new"));
        if middle.is_some_and(|middle| middle.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn line(change: Change) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(serde_json::to_vec(&change)?);
    line.push(b'\n');
    Ok(line)
}

fn is_torn(line: &[u8]) -> bool {
    line.last() != Some(&b'\n') && (line.starts_with(BEGINNING) || BEGINNING.starts_with(line))
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last[0])
}

/// Only its owner may read what is made so.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// A new file's name is safe only with its folder.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
