//! Runs the scripts in `tests/golden/machine` and compares what they print with what stands in
//! them. A script is a transcript: each step is a line after `> `, followed by what it prints;
//! empty lines and lines after `#` are for the reader. `ASPEN_GOLDEN=write` writes what the steps
//! print now into the files.
//!
//! A second test sees to it that every action, query, answer, refusal and invalid request of the
//! machine is in some script.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aspen::machine::tables::{MemTables, ReadTables, Table, WriteTables};
use aspen::machine::{apply, history, query, record_before};

use super::script::{Step, Words, Wrong, step};
use super::show;

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files of a folder and those below it, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn scripts_print_what_stands_in_them() {
    let write = std::env::var("ASPEN_GOLDEN").is_ok_and(|value| value == "write");
    for path in files(&folder("tests/golden/machine")) {
        let script = fs::read_to_string(&path).unwrap();
        let printed = Runner::default().run(&script);
        if write {
            #[expect(clippy::disallowed_methods, reason = "a golden file, written on request")]
            fs::write(&path, &printed).unwrap();
        } else if printed != script {
            let line = printed.lines().zip(script.lines()).take_while(|(a, b)| a == b).count();
            let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
            panic!(
                "{}:{}: expected {:?}, printed {:?}; ASPEN_GOLDEN=write rewrites it",
                path.display(),
                line + 1,
                at(&script),
                at(&printed)
            );
        }
    }
}

#[derive(Default)]
struct Runner {
    tables: MemTables,
    index: u64,
    /// Every word of the debug text of what was asked and answered.
    met: BTreeSet<String>,
}

impl Runner {
    /// The script with what its steps print now.
    fn run(&mut self, script: &str) -> String {
        let mut out: Vec<String> = Vec::new();
        for line in script.lines() {
            match line.strip_prefix("> ") {
                Some(step) => {
                    out.push(line.into());
                    self.line(&mut out, step);
                }
                None if line.is_empty() || line.starts_with('#') => out.push(line.into()),
                None => {}
            }
        }
        out.join("\n") + "\n"
    }

    fn line(&mut self, out: &mut Vec<String>, line: &str) {
        let (times, line) = match line.strip_prefix("repeat ").and_then(|l| l.split_once(' ')) {
            Some((times, line)) => (times.parse().unwrap(), line),
            None => (1u64, line),
        };
        let start = out.len();
        for repetition in 1..=times {
            out.truncate(start);
            self.once(out, Words::new(line, repetition));
        }
    }

    fn once(&mut self, out: &mut Vec<String>, mut words: Words) {
        if words.take_if("leases-are") {
            self.set_leases(words.number().unwrap());
            return;
        }
        let unchecked = words.take_if("unchecked");
        let asked = step(&mut words).and_then(|step| words.end().map(|()| step));
        let checked = asked.and_then(|step| {
            match &step {
                Step::Command(command) if !unchecked => command.validate()?,
                Step::Query(query) => query.validate()?,
                _ => {}
            }
            Ok(step)
        });
        match checked {
            Ok(step) => self.step(out, step),
            Err(Wrong::Invalid(invalid)) => {
                self.meet(&invalid);
                let name = format!("{invalid:?}");
                let name = name.split([' ', '{', '(']).next().unwrap_or_default();
                out.push(format!("invalid {name}: {invalid}"));
            }
            Err(Wrong::Script(wrong)) => panic!("a mistake in a script: {wrong}"),
        }
    }

    fn step(&mut self, out: &mut Vec<String>, step: Step) {
        match step {
            Step::Command(command) => {
                self.index += 1;
                let applied = apply(&mut self.tables, self.index, &command).unwrap();
                self.meet(&command);
                self.meet(&applied.outcome);
                show::applied(out, &applied);
            }
            Step::Query(asked) => {
                let outcome = query(&self.tables, &asked).unwrap();
                self.meet(&asked);
                self.meet(&outcome);
                show::outcome(out, &outcome);
            }
            Step::History { from, to, range, max } => {
                match history(&self.tables, from, to, &range, max).unwrap() {
                    Ok(page) => {
                        out.push(format!("history, next {}", page.next));
                        show::events(out, &page.events);
                    }
                    Err(refusal) => show::outcome(out, &Err(refusal)),
                }
            }
            Step::Before { key, revision } => {
                show::before(out, &record_before(&self.tables, &key, revision).unwrap());
            }
        }
    }

    fn meet(&mut self, what: &impl std::fmt::Debug) {
        let text = format!("{what:?}");
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        self.met.extend(words.map(str::to_owned));
    }

    /// Writes the number of leases into the counters' row, as if so many had been granted.
    fn set_leases(&mut self, leases: u64) {
        let row = self.tables.get(Table::Meta, b"counters").unwrap().unwrap();
        assert!(row.iter().all(|byte| byte & 0x80 == 0), "the counters are small here");
        let mut row = row.to_vec();
        let mut number = Vec::new();
        let mut rest = leases;
        while rest >= 0x80 {
            number.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        number.push(rest as u8);
        row.splice(4..5, number);
        self.tables.put(Table::Meta, b"counters", &row).unwrap();
    }
}

/// The variants of an enum, read from its source.
fn variants(source: &str, of: &str) -> Vec<String> {
    let begin = format!("pub enum {of} {{");
    let body = source.lines().skip_while(|line| *line != begin).skip(1);
    let names: Vec<String> = body
        .take_while(|line| *line != "}")
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned())
        .collect();
    assert!(!names.is_empty(), "no enum {of}");
    names
}

#[test]
fn scripts_meet_every_operation_answer_and_refusal() {
    let mut runner_met = BTreeSet::new();
    for path in files(&folder("tests/golden/machine")) {
        let mut runner = Runner::default();
        runner.run(&fs::read_to_string(&path).unwrap());
        runner_met.append(&mut runner.met);
    }
    let ops = fs::read_to_string(folder("src/machine/ops.rs")).unwrap();
    let mut expected: BTreeSet<String> = [
        "Action",
        "PutLease",
        "Op",
        "CompareKeys",
        "CompareTarget",
        "Is",
        "OrderBy",
        "Select",
        "Query",
        "AnswerBody",
    ]
    .iter()
    .flat_map(|of| variants(&ops, of))
    .collect();
    // Of the errors, those that the machine and the types it takes speak of.
    let mut sources = files(&folder("src/machine"));
    sources.push(folder("src/types.rs"));
    let not_asked_for_here = ["ClusterId", "Consistency", "EndpointId", "KeyspaceName"];
    for source in sources {
        let source = fs::read_to_string(source).unwrap();
        for of in ["Invalid::", "Refusal::"] {
            for mention in source.split(of).skip(1) {
                let name = mention.split(|c: char| !c.is_alphanumeric()).next().unwrap();
                if !not_asked_for_here.contains(&name) {
                    expected.insert(name.to_owned());
                }
            }
        }
    }
    let missing: Vec<&String> = expected.difference(&runner_met).collect();
    assert!(missing.is_empty(), "in no script: {missing:?}");
}
