//! Files that a stack keeps in its folder beside the table. A crash leaves each with its old or its new content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Replaces a file's content atomically: a reader sees either the old content or all of the new one.
pub(crate) fn keep(file: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, content)?;
    fs::rename(&part, file)
}

/// Appends a line to a file.
pub(crate) fn add_line(file: &Path, line: &str) -> io::Result<()> {
    let mut opened: File = OpenOptions::new().create(true).append(true).open(file)?;
    opened.write_all(format!("{line}\n").as_bytes())
}

/// Returns the complete lines of a file, and removes an incomplete last line from it. A missing file has no lines.
pub(crate) fn whole_lines(file: &Path) -> io::Result<Vec<String>> {
    let content = match fs::read(file) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let ended = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
    let whole = content.get(..ended).unwrap_or_default();
    if ended < content.len() {
        keep(file, whole)?;
    }
    let text =
        std::str::from_utf8(whole).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::{add_line, keep, whole_lines};

    #[test]
    fn an_incomplete_last_line_is_removed() {
        let file = std::env::temp_dir().join(format!("ai-credits-lines-{}", std::process::id()));
        assert!(whole_lines(&file).unwrap().is_empty());
        add_line(&file, "one").unwrap();
        add_line(&file, "two").unwrap();
        for cut in 0..4 {
            let content = b"one\ntwo\n";
            keep(&file, &content[..content.len() - cut]).unwrap();
            let before = if cut == 0 { vec!["one", "two"] } else { vec!["one"] };
            assert_eq!(whole_lines(&file).unwrap(), before);
            add_line(&file, "three").unwrap();
            assert_eq!(whole_lines(&file).unwrap().last().unwrap(), "three");
        }
        std::fs::remove_file(&file).unwrap();
    }
}
