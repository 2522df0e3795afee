//! What is compared, and what is wanted of it.

use crate::Result;
use crate::load::Mix;
use crate::targets::Kind;

/// One comparison.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) number: u32,
    pub(crate) work: &'static str,
    pub(crate) ours: Kind,
    pub(crate) theirs: Kind,
    pub(crate) mix: Mix,
    /// Clients at a time, each measured by itself.
    pub(crate) clients: &'static [usize],
    /// How many times as much ours is to do: at least, and as aimed at.
    pub(crate) rate: Option<(f64, f64)>,
    /// How much of their p99 ours may have at most.
    pub(crate) p99: Option<f64>,
}

/// All rows, in order.
fn all() -> Vec<Row> {
    let row = |number, work, mix, clients, rate| Row {
        number,
        work,
        ours: Kind::AspenHttp,
        theirs: Kind::Etcd,
        mix,
        clients,
        rate: Some(rate),
        p99: None,
    };
    let put = "durable put";
    let mixed = Mix { puts_percent: 10 };
    // What is not in the list of what is wanted stands there to be known.
    let known = |number, ours, theirs| Row {
        ours,
        theirs,
        rate: None,
        ..row(number, put, Mix::PUTS, &[1, 64], (1.0, 1.0))
    };
    vec![
        row(1, put, Mix::PUTS, &[1], (1.2, 1.5)),
        row(2, put, Mix::PUTS, &[64], (2.5, 4.0)),
        Row { p99: Some(0.5), ..row(3, put, Mix::PUTS, &[256], (2.5, 4.0)) },
        row(6, "linearizable get", Mix::GETS, &[1, 64, 256], (2.0, 4.0)),
        row(8, "90 % get, 10 % put", mixed, &[64], (2.5, 4.0)),
        known(16, Kind::AspenTicket, Kind::AspenHttp),
        known(17, Kind::AspenHttp, Kind::Redis),
    ]
}

/// Those of these numbers; all if there are none.
pub(crate) fn chosen(numbers: &[u32]) -> Result<Vec<Row>> {
    let rows = all();
    let has = |number: &u32| rows.iter().any(|row| row.number == *number);
    if let Some(number) = numbers.iter().find(|number| !has(number)) {
        let known: Vec<String> = rows.iter().map(|row| row.number.to_string()).collect();
        return Err(format!("there is no row {number}; there are {}", known.join(", ")).into());
    }
    let is_chosen = |row: &Row| numbers.is_empty() || numbers.contains(&row.number);
    Ok(rows.into_iter().filter(is_chosen).collect())
}
