//! Where registrations are kept: the trait, and a file. The file's format is in `journal.rs`.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::journal::{self, Journal};
use super::lock::Lock;
use crate::secret::SecretString;
use crate::server::keys::{KeyInfo, Managed};

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

/// A [`RegistrationStore`] in one file of JSON lines. Each change is a line at its end, on disk before it counts; a file that
/// is mostly out of date is replaced by a shorter one. On Unix only its owner may read it (0600).
///
/// Any number of handles and processes of one machine may use it: whoever changes it holds a lock on the file with
/// `.lock` at the end of its name, for 10 s at most. It is not made for network file systems.
#[derive(Debug, Clone)]
pub struct RegistrationFile {
    path: PathBuf,
    /// From which length on the whole file is looked at before it is changed. Whoever changes the file holds this, and
    /// takes the lock on the file after it.
    look_at: Arc<Mutex<u64>>,
}

impl RegistrationFile {
    /// A file that is made with the first key.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), look_at: Arc::default() }
    }

    fn with<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Managed<'static, T> {
        let this = self.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || run(&this)).await;
            Ok(done.map_err(io::Error::other)??)
        })
    }

    fn change(&self, app_id: &str, registration: Option<&Registration>) -> io::Result<()> {
        let mut look_at = self.look_at.lock().unwrap_or_else(PoisonError::into_inner);
        // By whatever name it is reached, it has one lock.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let _lock = Lock::take(&path)?;
        if *look_at == 0 {
            journal::remove_leftovers(&path);
        }
        *look_at = journal::append(&path, app_id, registration, *look_at)?;
        Ok(())
    }
}

impl RegistrationStore for RegistrationFile {
    fn all(&self) -> Managed<'_, Vec<Registration>> {
        self.with(|this| Ok(Journal::load(&this.path)?.into_registrations()))
    }

    fn put<'a>(&'a self, registration: &'a Registration) -> Managed<'a, ()> {
        let registration = registration.clone();
        self.with(move |this| this.change(&registration.info.app_id, Some(&registration)))
    }

    fn remove<'a>(&'a self, app_id: &'a str) -> Managed<'a, ()> {
        let app_id = app_id.to_owned();
        self.with(move |this| if this.path.exists() { this.change(&app_id, None) } else { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::secret::ExposeSecret;

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

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("evertoken-keys-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn registration(app_id: impl Into<String>) -> Registration {
        Registration::new(KeyInfo::new(app_id, "n"), "https://as.example/reg", "t0ken")
    }

    async fn names(path: &Path) -> Vec<String> {
        let all = RegistrationFile::new(path).all().await.unwrap();
        all.into_iter().map(|registration| registration.info.app_id).collect()
    }

    const CHILD: &str = "EVERTOKEN_TEST_REGISTRATIONS";

    /// Registers keys, in a child of the next tests, and says so of each when it is safe.
    #[tokio::test]
    async fn registers_in_a_child() {
        let Some(path) = std::env::var_os(CHILD) else { return };
        let most = std::env::var("MOST").unwrap().parse().unwrap();
        let file = RegistrationFile::new(path);
        for number in 0..most {
            file.put(&registration(format!("child-{number:06}"))).await.unwrap();
            println!("\nsafe child-{number:06}");
        }
    }

    fn child(path: &Path, most: usize) -> std::process::Child {
        let test = "server::keys::registration::store::tests::registers_in_a_child";
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, path)
            .env("MOST", most.to_string())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn handles_and_processes_lose_nothing_of_each_other() {
        let folder = folder("shared");
        let path = folder.join("keys.json");
        let mut child = child(&path, 100);
        let mut running = Vec::new();
        let mut paths = vec![path.clone(), folder.join(".").join("keys.json")];
        #[cfg(unix)]
        {
            // Another name of the same file, once there is one.
            RegistrationFile::new(&path).put(&registration("first")).await.unwrap();
            std::os::unix::fs::symlink(&path, folder.join("link.json")).unwrap();
            paths.push(folder.join("link.json"));
        }
        for (handle, path) in paths.into_iter().enumerate() {
            let file = RegistrationFile::new(path);
            running.push(tokio::spawn(async move {
                for number in 0..100 {
                    file.put(&registration(format!("{handle}-{number}"))).await.unwrap();
                    if number % 2 == 1 {
                        file.remove(&format!("{handle}-{number}")).await.unwrap();
                    }
                }
            }));
        }
        let expected = 100 + 50 * running.len() + usize::from(cfg!(unix));
        for one in running {
            one.await.unwrap();
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(names(&path).await.len(), expected);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_change_is_appended_and_what_is_out_of_date_goes_in_time() {
        let folder = folder("appended");
        let path = folder.join("keys.json");
        let lines: String = (0..20_000)
            .map(|number| {
                format!(
                    "{{\"app_id\":\"app-{number}\",\"registration\":{{\"name\":\"n\",\"customer\":null,\"created\":null,\
                     \"enabled\":true,\"registration_client_uri\":\"https://as.example/reg\",\
                     \"registration_access_token\":\"t\"}}}}\n"
                )
            })
            .collect();
        fs::write(&path, &lines).unwrap();
        let file = RegistrationFile::new(&path);
        file.put(&registration("new")).await.unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&lines) && text.len() < lines.len() + 300, "{}", text.len());

        // One key that changes all the time, in a file of its own.
        let path = folder.join("busy.json");
        let left = folder.join("busy.json.00ff.new");
        fs::write(&left, "t0ken of somebody who was killed").unwrap();
        let file = RegistrationFile::new(&path);
        for number in 0..1_000 {
            let mut registration = registration("app");
            registration.info.name = number.to_string();
            file.put(&registration).await.unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() < 100_000);
        assert_eq!(file.all().await.unwrap()[0].info.name, "999");
        let mut left: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["busy.json", "busy.json.lock", "keys.json", "keys.json.lock"]);
        #[cfg(unix)]
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            use std::os::unix::fs::PermissionsExt;
            let is_ours = entry.file_name() != "keys.json";
            assert!(!is_ours || entry.metadata().unwrap().permissions().mode() & 0o777 == 0o600);
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_line_that_is_cut_anywhere_loses_no_other() {
        let folder = folder("cut");
        let path = folder.join("keys.json");
        for app_id in ["a", "b"] {
            RegistrationFile::new(&path).put(&registration(app_id)).await.unwrap();
        }
        let text = fs::read(&path).unwrap();
        let first = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in first..=text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            let expected: &[&str] = if cut >= text.len() - 1 { &["a", "b"] } else { &["a"] };
            assert_eq!(names(&path).await, expected, "{cut}");
            RegistrationFile::new(&path).put(&registration("c")).await.unwrap();
            let after = [expected, &["c"]].concat();
            assert_eq!(names(&path).await, after, "{cut}");
        }
        // In the midst, that is no crash.
        fs::write(&path, [&text[..first - 5], b"\n", &text[first..]].concat()).unwrap();
        assert!(RegistrationFile::new(&path).put(&registration("c")).await.is_err());
        fs::remove_dir_all(&folder).unwrap();
    }

    /// SIGKILL in the midst of changes: what was safe is there, and the file can be used on.
    #[cfg(unix)]
    #[tokio::test]
    async fn what_was_safe_outlives_a_killed_writer() {
        use std::io::{BufRead, BufReader};

        let folder = folder("killed");
        let path = folder.join("keys.json");
        let mut child = child(&path, 1_000_000);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut safe = Vec::new();
        for line in lines.map_while(Result::ok) {
            safe.extend(line.strip_prefix("safe ").map(str::to_owned));
            if safe.len() == 50 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let names = names(&path).await;
        assert!(safe.len() >= 50 && safe.iter().all(|app_id| names.contains(app_id)), "{safe:?}");
        RegistrationFile::new(&path).put(&registration("after")).await.unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
