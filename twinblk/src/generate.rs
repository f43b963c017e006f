//! What a package has beside the program and what follows from its command line: man pages and completions.

use crate::cli::Cli;
use crate::failure::{Context, Failure};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use std::path::Path;

/// The shells, for each of which there is a file.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes a page for each command to `man` below the folder, and a file for each shell to `completions`.
pub(crate) fn run(folder: &Path) -> Result<(), Failure> {
    let doing = || format!("cannot write to {}", folder.display());
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for made in [&man, &completions] {
        std::fs::create_dir_all(made).context(doing)?;
    }
    clap_mangen::generate_to(Cli::command(), &man).context(doing)?;
    for shell in SHELLS {
        generate_to(shell, &mut Cli::command(), "twinblk", &completions).context(doing)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn every_command_has_a_page_and_every_shell_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        run(folder.path()).expect("they are written");
        let read = |name: &str| {
            let text = std::fs::read_to_string(folder.path().join(name));
            text.unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        for page in [
            "",
            "-serve",
            "-volume",
            "-volume-attach",
            "-volume-replica-add",
        ] {
            let text = read(&format!("man/twinblk{page}.1"));
            assert!(text.contains(&format!(".TH twinblk{page} 1")), "{text}");
        }
        for file in ["twinblk.bash", "_twinblk", "twinblk.fish"] {
            assert!(
                read(&format!("completions/{file}")).contains("volume"),
                "{file}"
            );
        }
        // What no person types is in neither.
        assert!(!folder.path().join("man/twinblk-generate.1").exists());
        assert!(!read("man/twinblk-volume-attach.1").contains("child"));
    }
}
