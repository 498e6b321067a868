//! `criu check`: what was found, for people as a table, for scripts in CRIU's words.

use console::style;

use super::json::{self, Value};
use super::{DONE, FAILED};
use crate::engine::check::{self, FEATURES, Feature, Need, Survey, Verdict};
use crate::error::Result;
use crate::log::Log;
use crate::options::Options;

/// A name that stands for all: they are listed, and none is looked for.
const LIST: &str = "list";

/// Looks for what `options` ask about, and says what it comes to. The result is the exit code.
pub fn check(options: &Options, as_json: bool, log: &Log) -> Result<i32> {
    if options.features.iter().any(|name| name == LIST) {
        list(as_json);
        return Ok(DONE);
    }
    let survey = check::survey(options)?;
    let verdict = survey.verdict();
    let for_people = !as_json && console::user_attended();
    if as_json {
        say!("{}", to_json(&survey));
    } else if for_people {
        table(&survey);
        say!("{}", survey.text());
    } else if verdict != Verdict::Bad || options.features.is_empty() {
        say!("{}", survey.text());
    }
    // Who has read the table need not read it again on standard error.
    let silent = Log::none();
    let told = for_people || as_json;
    let log = if told && !log.is_file() { &silent } else { log };
    match check::tell(&survey, log) {
        Err(error) if told => log.error(error),
        result => result?,
    }
    Ok(if verdict == Verdict::Good { DONE } else { FAILED })
}

fn list(as_json: bool) {
    if as_json {
        let all = FEATURES.iter().map(feature_json).collect();
        let fields = [("command", "check".into()), ("success", true.into()), ("features", all)];
        say!("{}", json::object(fields));
        return;
    }
    for feature in FEATURES {
        if console::user_attended() {
            say!("{:25} {:16} without it, {}", feature.name, feature.need.words(), feature.cost);
        } else {
            say!("{}", feature.name);
        }
    }
}

/// Features that are there in a line each, those that are not with what that costs and why.
fn table(survey: &Survey) {
    for finding in &survey.findings {
        let feature = finding.feature;
        match &finding.missing {
            None => say!("{} {}", style("yes").green(), feature.name),
            Some(why) => {
                let no = match feature.need {
                    Need::Always => style("no ").red().bold(),
                    Need::Some | Need::Experimental => style("no ").yellow(),
                };
                say!("{no} {:25} {:16} {}", feature.name, feature.need.words(), feature.cost);
                say!("    {}", style(why).dim());
            }
        }
    }
    if let Some(remedy) = survey.remedy() {
        say!("{} {remedy}", style("What helps:").green());
    }
}

fn feature_json(feature: &Feature) -> Value {
    json::object([
        ("name", feature.name.into()),
        ("need", feature.need.words().into()),
        ("cost", feature.cost.into()),
    ])
}

fn to_json(survey: &Survey) -> Value {
    let finding = |finding: &check::Finding| {
        let mut value = feature_json(finding.feature);
        value["supported"] = finding.missing.is_none().into();
        if let Some(why) = &finding.missing {
            value["error"] = json::error(why);
        }
        value
    };
    let verdict = match survey.verdict() {
        Verdict::Good => "good",
        Verdict::Limited => "limited",
        Verdict::Bad => "bad",
    };
    json::object([
        ("command", "check".into()),
        ("success", (survey.verdict() == Verdict::Good).into()),
        ("verdict", verdict.into()),
        ("features", survey.findings.iter().map(finding).collect()),
    ])
}
