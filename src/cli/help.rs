//! Help pages: `-h` shows the frequent flags and fits a screen, `--help` shows every flag. Each page ends with three examples.

use clap::{Command, CommandFactory};

use super::args::Cli;

/// The command line with its help pages.
pub(super) fn command() -> Command {
    let root = Cli::command().mut_args(|arg| show(arg, FREQUENT_SHARED));
    PAGES.iter().fold(root, |root, page| {
        let path: Vec<&str> = page.path.split_whitespace().collect();
        at(root, &path, &|command| {
            let examples = page.examples.map(|example| format!("  crescendo {example}")).join("\n");
            let command = command.after_help(format!("Examples:\n{examples}"));
            if page.frequent.is_empty() { command } else { command.mut_args(|arg| show(arg, page.frequent)) }
        })
    })
}

/// The examples of all pages.
#[cfg(test)]
pub(crate) fn examples() -> impl Iterator<Item = &'static str> {
    PAGES.iter().flat_map(|page| page.examples)
}

/// Hides a flag from `-h` unless it is listed.
fn show(arg: clap::Arg, listed: &[&str]) -> clap::Arg {
    let hidden = !arg.is_positional() && arg.get_long().is_none_or(|long| !listed.contains(&long));
    if hidden { arg.hide_short_help(true) } else { arg }
}

/// Changes the command at a path of subcommands.
fn at(command: Command, path: &[&str], change: &dyn Fn(Command) -> Command) -> Command {
    match path {
        [] => change(command),
        [head, rest @ ..] => command.mut_subcommand(head, |sub| at(sub, rest, change)),
    }
}

/// The help page of a subcommand.
struct Page {
    /// The subcommand; empty for the program.
    path: &'static str,
    /// The flags of `-h`. Empty: all.
    frequent: &'static [&'static str],
    examples: [&'static str; 3],
}

const FREQUENT_SHARED: &[&str] = &["json", "device", "memory-limit"];

const FREQUENT_GENERATE: &[&str] = &[
    "model-path",
    "prompt",
    "image-path",
    "output-size",
    "num-frames",
    "seed",
    "num-inference-steps",
    "guidance-scale",
    "progressive-mode",
    "progressive-delta",
    "enable-upscaling",
    "upscaling-scale",
    "output-file-path",
    "overwrite",
];

const FREQUENT_ENHANCE: &[&str] = &[
    "output",
    "interpolate",
    "upscale",
    "upscaling-model-path",
    "filter",
    "refine",
    "start",
    "end",
    "recursive",
    "jobs",
    "overwrite",
];

const PAGES: &[Page] = &[
    Page {
        path: "",
        frequent: &[],
        examples: [
            "generate --model-path flux1-dev --prompt \"a serene mountain lake\"",
            "enhance photo.jpg -o large.png --upscale 2",
            "help enhance",
        ],
    },
    Page {
        path: "generate",
        frequent: FREQUENT_GENERATE,
        examples: [
            "generate --model-path flux1-dev --prompt \"a cat\" --progressive-mode dct_rewind",
            "generate --model-path wan-1.3b --prompt \"a cat\" --output-file-path cat.mp4",
            "generate --model-path z-image --prompt \"a cat\" --image-path cat.png --strength 0.6",
        ],
    },
    Page {
        path: "enhance",
        frequent: FREQUENT_ENHANCE,
        examples: [
            "enhance photo.jpg -o large.png --upscale 4k",
            "enhance clip.mp4 -o smooth.mp4 --interpolate 60fps",
            "enhance photos/ -o large/ --recursive --upscale 2 --filter lanczos",
        ],
    },
    Page {
        path: "export",
        frequent: &[],
        examples: [
            "export black-forest-labs/FLUX.1-dev",
            "export RealESRGAN_x2.pth -o graphs/",
            "export flux1-dev --portable --output-size 1024x1024",
        ],
    },
    Page {
        path: "inspect",
        frequent: &[],
        examples: ["inspect RealESRGAN_x2.pth", "inspect FLUX.1-dev/", "inspect graph.onnx --json"],
    },
    Page {
        path: "plan",
        frequent: &[],
        examples: [
            "plan generate --model-path flux1-dev --prompt x --progressive-mode dct_rewind",
            "plan enhance clip.mp4 -o large.mp4 --upscale 2",
            "plan enhance photos/ -o large/ --upscale 4 --json",
        ],
    },
    Page {
        path: "plan generate",
        frequent: FREQUENT_GENERATE,
        examples: [
            "plan generate --model-path flux1-dev --prompt x --progressive-mode dct_rewind",
            "plan generate --model-path wan-1.3b --prompt x --num-frames 41",
            "plan generate --model-path qwen-image --prompt x --output-size 1664x928 --json",
        ],
    },
    Page {
        path: "plan enhance",
        frequent: FREQUENT_ENHANCE,
        examples: [
            "plan enhance clip.mp4 -o large.mp4 --upscale 2",
            "plan enhance clip.mp4 -o smooth.mp4 --interpolate 60fps",
            "plan enhance photos/ -o large/ --upscale 4 --json",
        ],
    },
    Page { path: "models", frequent: &[], examples: ["models list", "models pull flux1-dev", "models du"] },
    Page {
        path: "models list",
        frequent: &[],
        examples: ["models list", "models list --json", "models list --offline"],
    },
    Page {
        path: "models pull",
        frequent: &[],
        examples: [
            "models pull flux1-dev",
            "models pull black-forest-labs/FLUX.1-schnell",
            "models pull ai-forever/Real-ESRGAN:RealESRGAN_x2.pth",
        ],
    },
    Page {
        path: "models rm",
        frequent: &[],
        examples: [
            "models rm flux1-dev",
            "models rm black-forest-labs/FLUX.1-schnell",
            "models rm realesrgan-x2 --json",
        ],
    },
    Page { path: "models du", frequent: &[], examples: ["models du", "models du --json", "models du --quiet"] },
    Page {
        path: "doctor",
        frequent: &[],
        examples: ["doctor", "doctor --json", "doctor --onnxruntime /opt/onnxruntime/lib"],
    },
    Page {
        path: "completions",
        frequent: &[],
        examples: [
            "completions bash > ~/.local/share/bash-completion/completions/crescendo",
            "completions zsh > ~/.zfunc/_crescendo",
            "completions fish > ~/.config/fish/completions/crescendo.fish",
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_flags_exist() {
        for page in PAGES {
            let mut command = command();
            command.build();
            let leaf = page.path.split_whitespace().fold(&command, |c, name| c.find_subcommand(name).unwrap_or(c));
            for flag in page.frequent.iter().chain(FREQUENT_SHARED) {
                let known = leaf.get_arguments().any(|arg| arg.get_long() == Some(flag));
                assert!(known, "{}: --{flag}", page.path);
            }
        }
    }
}
