//! `cargo xtask`: everything that is done with the project, from a bare machine to a tested build.

mod bench;
mod bpf;
mod build;
mod ci;
mod command;
mod demo;
mod fuzz;
mod lint;
mod machine;
mod paths;
mod root;
mod run;
mod setup;
mod test;
mod toolchain;
mod tools;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The command line of `cargo xtask`.
#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, builds, runs, tests and checks Jumpgate")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// One task for each thing that people do with the project.
#[derive(Subcommand)]
enum Task {
    /// Find or install the BPF toolchain and every other tool that the project uses
    Setup {
        /// Install nothing: report what lacks, and the command that mends it
        #[arg(long)]
        check: bool,
    },
    /// Build the BPF objects, then the `jumpgate` binary that embeds them
    Build {
        /// Build the binary with optimisation (the BPF objects always are)
        #[arg(long)]
        release: bool,
    },
    /// Build, then run `jumpgate` with the arguments after `--`, as root
    Run {
        /// Build and run with optimisation
        #[arg(long)]
        release: bool,
        /// Arguments for `jumpgate`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up, build, and show sessions staying on their nodes while their clients move
    Demo {
        /// Arguments for the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up, build, and run the tests
    Test {
        /// Which tests: those that need no root, those that need a kernel and root, or both
        #[arg(value_enum, default_value_t = test::Suite::All)]
        suite: test::Suite,
        /// More property-test cases and the long scenarios
        #[arg(long)]
        full: bool,
    },
    /// Build with optimisation and run the benchmarks, as root
    Bench {
        /// Arguments for the benchmark, such as --quick
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Give any bytes to the parser, the dissectors and all else, under libFuzzer
    Fuzz {
        /// Which target: parser, dissectors, packet, decapsulation, icmp, egress or configuration;
        /// without it, all in turn
        target: Option<String>,
        /// How long each is fuzzed
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Check formatting and run clippy, for the host and for the BPF target; warnings are errors
    Lint,
    /// What continuous integration runs: setup, lint, test
    Ci,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup { check: true } => setup::check(),
        Task::Setup { check: false } => setup::install(),
        Task::Build { release } => build::build(build::Profile::from_release(release)).map(drop),
        Task::Run { release, args } => run::run(build::Profile::from_release(release), &args),
        Task::Demo { args } => demo::demo(&args),
        Task::Test { suite, full } => test::test(suite, full, test::Skipping::Allowed),
        Task::Bench { args } => bench::bench(&args),
        Task::Fuzz { target, seconds } => fuzz::fuzz(target.as_deref(), seconds),
        Task::Lint => lint::lint(),
        Task::Ci => ci::ci(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
