//! Flags of SGLang's server that scripts contain. They are accepted, ignored, and named in a warning.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::plan::warn_unused;

/// Flags with an optional `true` or `false`.
const SWITCHES: [&str; 11] = [
    "dit-cpu-offload",
    "dit-layerwise-offload",
    "enable-cfg-parallel",
    "enable-torch-compile",
    "image-encoder-cpu-offload",
    "pin-cpu-memory",
    "text-encoder-cpu-offload",
    "trust-remote-code",
    "use-fsdp-inference",
    "vae-cpu-offload",
    "warmup",
];

/// Flags with a number.
const NUMBERS: [&str; 6] = ["num-gpus", "ring-degree", "sp-degree", "sp-size", "tp-size", "ulysses-degree"];

/// Flags with a name.
const NAMES: [&str; 4] = ["attention-backend", "backend", "diffusers-attention-backend", "vae-precision"];

/// The ignored flags that were given.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServingArgs(Vec<&'static str>);

impl ServingArgs {
    /// Warns of the given flags.
    pub(crate) fn warn(&self) {
        let given: Vec<String> = self.0.iter().map(|name| format!("--{name}")).collect();
        let flags: Vec<(bool, &str)> = given.iter().map(|flag| (true, flag.as_str())).collect();
        warn_unused(&flags, "these flags configure SGLang's server");
    }
}

impl FromArgMatches for ServingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let all = SWITCHES.iter().chain(&NUMBERS).chain(&NAMES);
        Ok(Self(all.copied().filter(|name| matches.contains_id(name)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ServingArgs {
    fn augment_args(command: Command) -> Command {
        let flag = |name: &'static str| Arg::new(name).long(name).hide(true);
        let switch = |name| flag(name).num_args(0..=1).default_missing_value("true").value_parser(value_parser!(bool));
        command
            .args(SWITCHES.map(switch))
            .args(NUMBERS.map(|name| flag(name).value_parser(value_parser!(u32))))
            .args(NAMES.map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
