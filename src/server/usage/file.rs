//! A sink that appends batches to a file. What reads them back is in `read.rs`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::UsageBatch;
use super::read::{self, StoredBatch};
use super::sink::{UsageSink, Written};

/// A [`UsageSink`] that appends to a file: JSON lines, one for each app id and batch, on disk (`fsync`) before it counts as
/// written.
///
/// The file is opened anew for each batch, so that it may be rotated by renaming it. What of a batch that failed came to be
/// written is taken back before it is tried again, and one that came to be written after all is not written twice. A process
/// that is killed while it writes leaves a part of a batch, whose last line may be torn: the next line starts on its own, and
/// [`read`](Self::read) reports which batches are whole. Each process needs a file of its own.
#[derive(Debug, Clone)]
pub struct UsageFile {
    path: PathBuf,
    /// The last batch that was written. A writing that was given up for its length goes on, and holds this till it ends.
    last: Arc<Mutex<Option<(String, u64)>>>,
}

impl UsageFile {
    /// A file that is made when the first batch comes, on Unix for its owner alone (0600): app ids and customers are nobody
    /// else's business. The permissions of one that is there already stay as they are.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), last: Arc::default() }
    }

    /// Reads all batches of a file back, in their order, with those that were only written in part marked as such. A batch
    /// that is there more than once, in whole or in part, is returned once. It blocks the thread, and has the whole file
    /// in memory: rotate files that are kept for long.
    ///
    /// # Errors
    /// If the file cannot be read. Lines that are no records are skipped.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<StoredBatch>> {
        read::read(path.as_ref())
    }
}

impl UsageSink for UsageFile {
    fn write<'a>(&'a self, batch: &'a UsageBatch) -> Written<'a> {
        let (this, lines) = (self.clone(), batch.to_json_lines());
        let batch = (batch.instance.clone(), batch.sequence);
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || this.put(batch, &lines)).await;
            Ok(written.map_err(io::Error::other)??)
        })
    }
}

impl UsageFile {
    fn put(&self, batch: (String, u64), lines: &str) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(&batch) {
            append(&self.path, lines.as_bytes())?;
            *last = Some(batch);
        }
        Ok(())
    }
}

fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    if is_new {
        // Before anything is in it that a failure would leave there.
        sync_folder(path)?;
    }
    let before = file.seek(SeekFrom::End(0))?;
    let torn = before > 0 && last_byte(&mut file)? != b'\n';
    let line_end: &[u8] = if torn { b"\n" } else { b"" };
    let written =
        file.write_all(line_end).and_then(|()| file.write_all(lines)).and_then(|()| file.sync_all());
    if written.is_err() {
        let ours = (line_end.len() + lines.len()) as u64;
        // Whatever somebody else has written meanwhile stays.
        if file.metadata().is_ok_and(|now| now.len() <= before + ours) {
            let _ = file.set_len(before);
        }
    }
    written
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last[0])
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("evertoken-usage-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_batch_that_comes_again_is_not_written_again() {
        let folder = Folder::new("again");
        let file = UsageFile::new(folder.0.join("usage.jsonl"));
        let batch = |sequence| ("a".to_owned(), sequence);
        for (sequence, lines) in [(1, "one\n"), (1, "one\n"), (2, "two\n"), (2, "two\n"), (3, "three\n")] {
            file.clone().put(batch(sequence), lines).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file.path).unwrap(), "one\ntwo\nthree\n");
        // One that failed is.
        std::fs::remove_file(&file.path).unwrap();
        std::fs::create_dir(&file.path).unwrap();
        assert!(file.put(batch(4), "four\n").is_err());
        std::fs::remove_dir(&file.path).unwrap();
        file.put(batch(4), "four\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file.path).unwrap(), "four\n");
    }

    #[test]
    fn lines_are_appended_and_a_torn_one_is_closed() {
        let folder = Folder::new("append");
        let path = folder.0.join("usage.jsonl");
        append(&path, b"{\"n\":1}\n").unwrap();
        append(&path, b"{\"n\":2}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":2}\n");
        std::fs::write(&path, "{\"n\":1}\n{\"n\":").unwrap();
        append(&path, b"{\"n\":3}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":\n{\"n\":3}\n");
        // Rotated: a new one is made.
        std::fs::rename(&path, folder.0.join("usage.1")).unwrap();
        append(&path, b"{\"n\":4}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"n\":4}\n");
        assert!(append(&folder.0, b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;

        let folder = Folder::new("owner");
        let path = folder.0.join("usage.jsonl");
        append(&path, b"{}\n").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        // Whoever opens it to a group means it.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        append(&path, b"{}\n").unwrap();
        assert_eq!(mode(&path), 0o640);
    }

    /// A disk that is full, as Linux plays it.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        assert!(append(Path::new("/dev/full"), b"{}\n").is_err());
    }
}
