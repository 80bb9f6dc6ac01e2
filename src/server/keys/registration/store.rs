use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::{ExposeSecret, SecretString};
use crate::server::keys::{KeyInfo, Managed};
use crate::server::time::{parse_rfc3339, rfc3339};

/// What must be kept of a registered client, to find and to manage it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Registration {
    /// Which it is.
    pub info: KeyInfo,
    /// Its `registration_client_uri` (RFC 7592 3).
    pub management_url: String,
    /// Its `registration_access_token`: with it the client can be changed and deleted.
    pub access_token: SecretString,
}

impl Registration {
    /// As the server gave it.
    pub fn new(
        info: KeyInfo,
        management_url: impl Into<String>,
        access_token: impl Into<SecretString>,
    ) -> Self {
        Self { info, management_url: management_url.into(), access_token: access_token.into() }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("info", &self.info)
            .field("management_url", &self.management_url)
            .finish_non_exhaustive()
    }
}

/// Where registrations are kept: a file ([`RegistrationFile`]), a database, a vault.
pub trait RegistrationStore: Send + Sync + 'static {
    /// All of them.
    fn all(&self) -> Managed<'_, Vec<Registration>>;

    /// Keeps one, in the place of one with the same app id. When this is done, it is safe: a server that has replaced an
    /// access token takes the old one no more.
    fn put<'a>(&'a self, registration: &'a Registration) -> Managed<'a, ()>;

    /// Forgets one; that there is none is no error.
    fn remove<'a>(&'a self, app_id: &'a str) -> Managed<'a, ()>;
}

/// A [`RegistrationStore`] that is one JSON file, for one process. Only its owner may read it (mode 0600), and each change
/// replaces it whole, on disk before it counts.
#[derive(Debug, Clone)]
pub struct RegistrationFile {
    path: PathBuf,
    turn: Arc<Mutex<()>>,
}

impl RegistrationFile {
    /// A file that is made with the first key.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), turn: Arc::default() }
    }

    fn with<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Managed<'static, T> {
        let this = self.clone();
        Box::pin(async move {
            let run = move || {
                let _turn = this.turn.lock().unwrap_or_else(PoisonError::into_inner);
                run(&this.path)
            };
            Ok(tokio::task::spawn_blocking(run).await.map_err(io::Error::other)??)
        })
    }
}

/// One registration as the file has it, by its app id.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    customer: Option<String>,
    created: Option<String>,
    enabled: bool,
    registration_client_uri: String,
    registration_access_token: Zeroizing<String>,
}

type All = BTreeMap<String, Stored>;

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

fn load(path: &Path) -> io::Result<All> {
    let text = match fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(All::new()),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&text).map_err(|error| {
        // Its words may quote what it read.
        let place = format!("it is not what was written (line {}, column {})", error.line(), error.column());
        io::Error::new(io::ErrorKind::InvalidData, place)
    })
}

fn save(path: &Path, all: &All) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // What a crash has left behind.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(&Zeroizing::new(serde_json::to_vec_pretty(all)?))?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

impl RegistrationStore for RegistrationFile {
    fn all(&self) -> Managed<'_, Vec<Registration>> {
        self.with(|path| {
            Ok(load(path)?.into_iter().map(|(app_id, stored)| stored.registration(app_id)).collect())
        })
    }

    fn put<'a>(&'a self, registration: &'a Registration) -> Managed<'a, ()> {
        let (app_id, stored) = (registration.info.app_id.clone(), Stored::from(registration));
        self.with(move |path| {
            let mut all = load(path)?;
            all.insert(app_id, stored);
            save(path, &all)
        })
    }

    fn remove<'a>(&'a self, app_id: &'a str) -> Managed<'a, ()> {
        let app_id = app_id.to_owned();
        self.with(move |path| {
            let mut all = load(path)?;
            match all.remove(&app_id) {
                Some(_) => save(path, &all),
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[tokio::test]
    async fn the_file_has_what_was_put_and_only_its_owner_reads_it() {
        let folder = std::env::temp_dir().join(format!("evertoken-keys-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("keys.json");
        let file = RegistrationFile::new(&path);
        assert!(file.all().await.unwrap().is_empty());
        let mut info = KeyInfo::new("app-7", "night's \"import\"");
        info.customer = Some("Initech".into());
        info.created = Some(UNIX_EPOCH + Duration::from_millis(1_234_567_890_123));
        file.put(&Registration::new(info.clone(), "https://as.example/reg/7", "t0ken")).await.unwrap();
        file.put(&Registration::new(KeyInfo::new("app-8", "b"), "https://as.example/reg/8", "8"))
            .await
            .unwrap();
        info.enabled = false;
        file.put(&Registration::new(info.clone(), "https://as.example/reg/7", "t0ken 2")).await.unwrap();

        let all = RegistrationFile::new(&path).all().await.unwrap();
        assert_eq!((all.len(), &all[0].info, all[0].access_token.expose_secret()), (2, &info, "t0ken 2"));
        assert!(!format!("{all:?}").contains("t0ken"), "{all:?}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        file.remove("app-7").await.unwrap();
        file.remove("app-7").await.unwrap();
        assert_eq!(file.all().await.unwrap().len(), 1);

        // What it cannot read, it does not replace, and does not repeat either.
        fs::write(&path, r#"{"app-8":{"registration_access_token":"t0ken"#).unwrap();
        let error = file.put(&all[0]).await.unwrap_err().to_string();
        assert!(error.contains("not what was written") && !error.contains("t0ken"), "{error}");
        assert!(file.all().await.is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
