//! The command line against itself and against the settings.

use super::*;
use clap::CommandFactory;
use underfoot::names::Named;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_key_is_a_flag_of_run() {
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("a verb");
    for key in Key::ALL {
        let mut flags = run.get_arguments().filter_map(clap::Arg::get_long);
        assert!(flags.any(|flag| flag == key.name()), "--{}", key.name());
    }
}

#[test]
fn the_last_of_a_flag_wins() {
    let args = ["underfoot", "run", "--batch", "1", "--batch", "2"];
    let cli = Cli::try_parse_from(args).expect("twice");
    let Verb::Run(args) = cli.verb else {
        panic!("not run");
    };
    let batch = args
        .into_request()
        .settings
        .get(Key::Batch, |text| Ok(text.to_owned()));
    assert_eq!(batch.expect("text").as_deref(), Some("2"));
}

#[test]
fn parameters_add_up() {
    let args = [
        "underfoot",
        "run",
        "--parameter",
        "a=1",
        "--parameters",
        "b=2,c=3",
    ];
    let cli = Cli::try_parse_from(args).expect("twice");
    let Verb::Run(args) = cli.verb else {
        panic!("not run");
    };
    let settings = args.into_request().settings;
    let text = settings.get(Key::Parameters, |text| Ok(text.to_owned()));
    assert_eq!(text.expect("text").as_deref(), Some("a=1,b=2,c=3"));
}

#[test]
fn every_flag_reaches_its_key() {
    for key in Key::ALL {
        let flag = format!("--{}=value", key.name());
        let cli = Cli::try_parse_from(["underfoot", "run", &flag]).expect("a flag");
        let Verb::Run(args) = cli.verb else {
            panic!("not run");
        };
        let settings = args.into_request().settings;
        let value = settings.get(*key, |text| Ok(text.to_owned()));
        assert_eq!(value.expect("text").as_deref(), Some("value"), "{flag}");
    }
}
