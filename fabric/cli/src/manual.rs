//! `wireonce completion` and `wireonce manual`: made from the command line's own description, so
//! that they never lag behind it.

use crate::{failure::Failure, output};
use clap::{Command, Parser};
use clap_complete::Shell;
use std::{fs, path::PathBuf};

/// The program, and the first part of each page's name.
const NAME: &str = "wireonce";

/// The command line of `completion`.
#[derive(Debug, Parser)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The command line of `manual`.
#[derive(Debug, Parser)]
pub(crate) struct ManualArgs {
    /// Where to write the pages, such as /usr/local/share/man/man1; made if it is not there
    directory: PathBuf,
}

/// Prints the shell's script.
pub(crate) fn completion(args: &CompletionArgs, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, NAME, &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Writes the pages, and says how many.
pub(crate) fn manual(args: &ManualArgs, command: Command) -> Result<(), Failure> {
    let failed = |path: &PathBuf, error| Failure::Runtime(format!("{}: {error}", path.display()));
    fs::create_dir_all(&args.directory).map_err(|error| failed(&args.directory, error))?;
    let pages = pages(command).map_err(|error| failed(&args.directory, error))?;
    let count = pages.len();
    for (name, page) in pages {
        let path = args.directory.join(name);
        fs::write(&path, page).map_err(|error| failed(&path, error))?;
    }
    output::print(&format!("{}: {count} pages\n", args.directory.display()))
}

/// A page for the program and for each verb, and those below it.
fn pages(command: Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = command.name(NAME).disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let mut left = vec![(NAME.to_owned(), command)];
    while let Some((name, command)) = left.pop() {
        let below = command.get_subcommands().filter(|it| !it.is_hide_set());
        left.extend(below.map(|it| (format!("{name}-{}", it.get_name()), it.clone())));
        let mut page = Vec::new();
        clap_mangen::Man::new(command).title(name.to_uppercase()).render(&mut page)?;
        pages.push((format!("{name}.1"), page));
    }
    pages.sort();
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn verbs() -> Vec<String> {
        let command = crate::Command::command();
        command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect()
    }

    #[test]
    fn each_verb_has_a_page_that_names_it_and_its_options() {
        let pages = pages(crate::Command::command()).unwrap();
        let page = |name: &str| {
            let found = pages.iter().find(|(page, _)| page == &format!("wireonce-{name}.1"));
            String::from_utf8_lossy(&found.unwrap_or_else(|| panic!("no page of {name}")).1)
                .into_owned()
        };
        assert!(verbs().len() > 20);
        for verb in verbs() {
            let text = page(&verb);
            assert!(
                text.contains(".SH SYNOPSIS") && text.contains(&verb.replace('-', "\\-")),
                "{verb}"
            );
        }
        assert!(page("explain").contains("\\-\\-for"));
        assert!(page("grant-move").contains("\\-\\-pool"), "verbs below verbs, too");
        assert!(pages.iter().any(|(name, _)| name == "wireonce.1"));
    }

    /// Each verb, and each below it, as `wireonce-grant-move`, with its options.
    fn options() -> Vec<(String, Vec<String>)> {
        let mut command = crate::Command::command().name(NAME).disable_help_subcommand(true);
        command.build();
        let (mut found, mut left) = (Vec::new(), vec![(NAME.to_owned(), command)]);
        while let Some((path, command)) = left.pop() {
            let shown = command.get_arguments().filter(|it| !it.is_hide_set());
            let long = shown.filter_map(|it| it.get_long().map(str::to_owned)).collect();
            let below = command.get_subcommands();
            left.extend(below.map(|it| (format!("{path}-{}", it.get_name()), it.clone())));
            found.push((path, long));
        }
        found
    }

    #[test]
    fn each_option_of_each_verb_below_verbs_is_in_its_page() {
        let pages = pages(crate::Command::command()).unwrap();
        let options = options();
        assert_eq!(options.len(), pages.len());
        assert!(options.iter().map(|(_, long)| long.len()).sum::<usize>() > 300);
        for (path, long) in options {
            let page = pages.iter().find(|(name, _)| name == &format!("{path}.1"));
            let page = &page.unwrap_or_else(|| panic!("no page of {path}")).1;
            let page = String::from_utf8_lossy(page);
            for option in long {
                let shown = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(page.contains(&shown), "{path}: {option}");
            }
        }
    }

    #[test]
    fn each_shell_completes_each_verb_and_its_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut crate::Command::command(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in verbs() {
                assert!(script.contains(&verb), "{shell}: {verb}");
            }
            for (path, long) in options() {
                for option in long {
                    // fish names options without their dashes.
                    let is_known = script.contains(&format!("--{option}"))
                        || script.contains(&format!("-l {option}"));
                    assert!(is_known, "{shell}: {path} --{option}");
                }
            }
        }
    }
}
