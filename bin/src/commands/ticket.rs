//! `ticket`: made, listed and revoked by a node; read by anybody.

use aspen::seams::{SystemClock, WallClock};
use aspen_tickets::{
    Body, ClientTicket, Grant, Invitation, JoinTicket, Peer, Prefix, Scope, Signed, Ticket as _,
    USES_ANY,
};
use data_encoding::HEXLOWER;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::{self, Access, until};
use crate::args::CreateArgs;
use crate::client::{self, Node, Request};
use crate::exit::Failure;
use crate::input::{self, Uses};
use crate::output;

/// Makes a ticket and prints it, alone: `ticket=$(aspen ticket create)`.
pub(crate) async fn create(node: Node, args: CreateArgs, json: bool) -> Result<(), Failure> {
    let mut body = match args.for_clients {
        false if args.scope.is_given() => {
            return Err(Failure::usage(
                "--prefix, --keyspace, --allow and --name are for programs: give --client, too",
            ));
        }
        false => json!({ "kind": "node", "role": args.role.to_string() }),
        true => access::asked(&args.scope)?,
    };
    if args.for_clients {
        body["kind"] = json!("client");
    }
    body["life_s"] = json!(args.expires.as_secs());
    match args.uses {
        // The node's own default.
        None => {}
        Some(Uses::Any) => body["uses"] = Value::Null,
        Some(Uses::Limited(uses)) => body["uses"] = json!(uses),
    }
    let answer = node.ask(Request::write(Method::POST, "/v1/tickets").json(&body)).await?;
    let made: Value = answer.json()?;
    if json {
        return output::json_line(&made);
    }
    output::line(made["ticket"].as_str().unwrap_or_default())
}

#[derive(Debug, Deserialize)]
struct Tickets {
    now_s: u64,
    tickets: Vec<Value>,
}

/// What is shown of a ticket in the list.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    kind: String,
    state: String,
    expires_s: u64,
    uses: Option<u32>,
    used: u32,
    role: Option<String>,
    #[serde(flatten)]
    access: Access,
}

/// Lists the tickets that the cluster knows.
pub(crate) async fn list(node: Node, json: bool) -> Result<(), Failure> {
    let answer = node.ask(Request::read(Method::GET, "/v1/tickets")).await?;
    let Tickets { now_s, tickets } = answer.json()?;
    if json {
        return tickets.iter().try_for_each(output::json_line);
    }
    let heading = ["TICKET", "FOR", "STATE", "EXPIRES", "USED", "NAME"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for ticket in &tickets {
        let ticket = Listed::deserialize(ticket).map_err(client::not_understood)?;
        let used = match ticket.uses {
            Some(uses) => format!("{} of {uses}", ticket.used),
            None => format!("{}, any number", ticket.used),
        };
        let (what, expires) = (ticket.what(), until(ticket.expires_s, now_s));
        let name = ticket.access.name.unwrap_or_default();
        rows.push(vec![ticket.id, what, ticket.state, expires, used, name]);
    }
    output::line(&output::table(&rows))
}

impl Listed {
    /// `a voter`, `clients: read in default app/`
    fn what(&self) -> String {
        if self.kind == "node" {
            return format!("a {}", self.role.as_deref().unwrap_or("node"));
        }
        format!("clients: {}", self.access.what())
    }
}

/// Makes a ticket good for nothing.
pub(crate) async fn revoke(node: Node, id: u128, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/tickets/{id:032x}");
    let answer = node.send(Request::write(Method::DELETE, &path)).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(Failure::refused(format!(
            "no ticket has the id {id:032x}; `aspen ticket list` shows those there are"
        )));
    }
    let answer = answer.accepted()?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    output::line(&format!("revoked {id:032x}"))
}

/// A ticket as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    kind: &'static str,
    id: String,
    cluster: String,
    cluster_id: String,
    #[serde(flatten)]
    what: What,
    expires_s: u64,
    uses: Option<u32>,
    issuer: String,
    peers: Vec<ShownPeer>,
    signature_fits: bool,
}

/// What a ticket is for.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What {
    Node { role: String },
    Client { allow: String, scope: String },
}

#[derive(Debug, Serialize)]
struct ShownPeer {
    endpoint_id: String,
    addresses: Vec<String>,
}

/// What is signed in tickets of both kinds.
struct Terms {
    id: u128,
    expires_s: u64,
    uses: u32,
    issuer: [u8; 32],
}

/// Reads a ticket of either kind. One whose signature does not fit is shown and refused.
pub(crate) fn show(text: String, json: bool) -> Result<(), Failure> {
    let text = input::ticket_text(text)?;
    let (shown, verified) = if text.trim().starts_with(ClientTicket::KIND) {
        let ticket: ClientTicket = text.parse().map_err(Failure::usage)?;
        (Shown::client(&ticket), ticket.verify())
    } else {
        let ticket: JoinTicket = text.parse().map_err(Failure::usage)?;
        (Shown::node(&ticket), ticket.verify())
    };
    match json {
        true => output::json_line(&shown)?,
        false => output::line(&shown.table(SystemClock.since_epoch().as_secs()))?,
    }
    verified.map_err(Failure::refused)
}

impl Shown {
    fn node(ticket: &JoinTicket) -> Self {
        let Invitation { id, role, expires_s, uses, issuer } = *ticket.invitation();
        let what = What::Node { role: role.to_string() };
        Shown::of("node", what, ticket, Terms { id, expires_s, uses, issuer })
    }

    fn client(ticket: &ClientTicket) -> Self {
        let Grant { id, ref scope, verbs, expires_s, uses, issuer } = *ticket.grant();
        let what = What::Client { allow: verbs.to_string(), scope: scope_text(scope) };
        Shown::of("client", what, ticket, Terms { id, expires_s, uses, issuer })
    }

    fn of<B: Body>(kind: &'static str, what: What, ticket: &Signed<B>, terms: Terms) -> Self {
        let Terms { id, expires_s, uses, issuer } = terms;
        let peer = |peer: &Peer| ShownPeer {
            endpoint_id: HEXLOWER.encode(&peer.endpoint),
            addresses: peer.addresses.iter().map(ToString::to_string).collect(),
        };
        Shown {
            kind,
            id: format!("{id:032x}"),
            cluster: ticket.cluster().name.clone(),
            cluster_id: format!("{:032x}", ticket.cluster().id),
            what,
            expires_s,
            uses: (uses != USES_ANY).then_some(uses),
            issuer: HEXLOWER.encode(&issuer),
            peers: ticket.peers().iter().map(peer).collect(),
            signature_fits: ticket.verify().is_ok(),
        }
    }

    fn table(&self, now_s: u64) -> String {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let what = match &self.what {
            What::Node { role } => format!("a node that becomes a {role}"),
            What::Client { allow, scope } => format!("clients: {allow} in {scope}"),
        };
        let uses = self.uses.map_or_else(|| "any number".to_owned(), |uses| uses.to_string());
        let signature = if self.signature_fits { "fits" } else { "does not fit" };
        let mut rows = vec![
            row("ticket", self.id.clone()),
            row("cluster", format!("{} ({})", self.cluster, self.cluster_id)),
            row("for", what),
            row("expires", until(self.expires_s, now_s)),
            row("uses", uses),
            row("issuer", self.issuer.clone()),
        ];
        for ShownPeer { endpoint_id, addresses } in &self.peers {
            rows.push(row("peer", format!("{endpoint_id} at {}", addresses.join(", "))));
        }
        rows.push(row("signature", signature.to_owned()));
        output::table(&rows)
    }
}

fn scope_text(scope: &Scope) -> String {
    match scope {
        Scope::All => "everything".to_owned(),
        Scope::Keyspaces(names) => names.join(" "),
        Scope::Prefixes(list) => {
            let prefix =
                |at: &Prefix| format!("{}:{}", at.keyspace, output::bytes_text(&at.prefix));
            list.iter().map(prefix).collect::<Vec<_>>().join(" ")
        }
    }
}
