//! Help pages: `-h` fits a screen, every page ends with three examples, `help` leads to every flag.

use assert_cmd::Command;

/// Every subcommand.
const PAGES: &[&str] = &[
    "",
    "generate",
    "enhance",
    "export",
    "inspect",
    "plan",
    "plan generate",
    "plan enhance",
    "models",
    "models list",
    "models pull",
    "models rm",
    "models du",
    "doctor",
    "completions",
];

/// The output with 100 columns.
fn page(args: &str) -> String {
    let mut command = Command::cargo_bin("crescendo").unwrap();
    let out = command.args(args.split_whitespace()).env("COLUMNS", "100").output().unwrap();
    assert!(out.status.success(), "{args}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn pages_end_with_examples_and_the_short_one_fits_a_screen() {
    let mut bad = Vec::new();
    for name in PAGES {
        for flag in ["-h", "--help"] {
            let text = page(&format!("{name} {flag}"));
            let lines: Vec<&str> = text.trim_end().lines().collect();
            let last = &lines[lines.len().saturating_sub(4)..];
            if last[0] != "Examples:" || !last[1..].iter().all(|line| line.starts_with("  crescendo ")) {
                bad.push(format!("{name} {flag} ends with {last:?}"));
            }
            if flag == "-h" && lines.len() > 50 {
                bad.push(format!("{name} -h has {} lines", lines.len()));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// README: `crescendo help` lists the subcommands, and `crescendo help COMMAND` its flags.
#[test]
fn help_leads_to_every_command_and_flag() {
    let mut bad = Vec::new();
    let list = page("help");
    for name in PAGES.iter().filter(|name| !name.is_empty()) {
        let (first, rest) = name.split_once(' ').unwrap_or((name, ""));
        if rest.is_empty() && !list.lines().any(|line| line.trim_start().starts_with(&format!("{first} "))) {
            bad.push(format!("help does not list {first}"));
        }
        let (help, flag) = (page(&format!("help {name}")), page(&format!("{name} --help")));
        if help != flag {
            bad.push(format!("help {name} and {name} --help differ"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
