use std::io;
use std::path::{Path, PathBuf};

/// Where `/` is: another folder in tests.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    pub fn of_this_machine() -> Root {
        Root(PathBuf::from("/"))
    }

    pub fn at(folder: &Path) -> Root {
        Root(folder.to_path_buf())
    }

    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.0.join(below)
    }

    /// A small file without the blanks around its text.
    pub fn text(&self, below: impl AsRef<Path>) -> io::Result<String> {
        let text = std::fs::read(self.path(below))?;
        Ok(String::from_utf8_lossy(&text).trim().to_string())
    }

    /// A file with one number; `None` where it is not there, or holds something else.
    pub fn number(&self, below: impl AsRef<Path>) -> Option<u64> {
        let text = self.text(below).ok()?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.split_whitespace().next()?.parse().ok(),
        }
    }

    /// The names in a folder, in order; none where there is no such folder.
    pub fn names(&self, below: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.path(below)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    pub fn exists(&self, below: impl AsRef<Path>) -> bool {
        self.path(below).exists()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A folder that looks like `/`.
    pub struct Tree(tempfile::TempDir);

    impl Tree {
        pub fn new() -> Tree {
            Tree(tempfile::tempdir().unwrap())
        }

        pub fn root(&self) -> Root {
            Root::at(self.0.path())
        }

        pub fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        pub fn link(&self, path: &str, target: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(self.0.path().join(target), path).unwrap();
        }

        pub fn remove(&self, path: &str) {
            std::fs::remove_dir_all(self.0.path().join(path)).unwrap();
        }
    }

    #[test]
    fn numbers_are_read_in_both_notations() {
        let tree = Tree::new();
        tree.write("a", "12\n");
        tree.write("b", "0x10de\n");
        tree.write("c", "none\n");
        let root = tree.root();
        assert_eq!((root.number("a"), root.number("b")), (Some(12), Some(0x10de)));
        assert_eq!((root.number("c"), root.number("d")), (None, None));
        assert_eq!(root.names("nowhere").unwrap(), Vec::<String>::new());
    }
}
