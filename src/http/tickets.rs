//! `/v1/tickets`: tickets are made, listed and revoked.
//!
//! A ticket's string is answered once, where it is made: the cluster keeps what it grants and not
//! the signature that makes it good.

use std::time::Duration;

use aspen_tickets::{Role, SCOPE_ENTRIES_MAX, USES_ANY, Verb, Verbs};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::AtNode;
use super::access::{self, AccessForm, AccessId, PrefixForm, RevokedForm};
use super::auth::Need;
use super::body;
use super::decode::{Params, Path};
use super::json;
use super::openapi::CLUSTER;
use super::operation::*;
use super::problem::*;
use super::schemas::{Name, RoleName, VerbName};
use crate::limits::{GRANT_USES_MAX, TICKET_LIFE_S_MAX};
use crate::roster::records::{Grant, Invitation};
use crate::roster::tickets::Access;
use crate::roster::{Roster, refused::Refused};
use crate::types::{EndpointId, Form, KeyspaceName};

/// How long a ticket is good unless the request says otherwise.
const LIFE_S: u64 = 3_600;

/// What a ticket is asked for with.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[schemars(rename = "NewTicket")]
enum CreateForm {
    /// For nodes that join.
    Node {
        #[serde(default, deserialize_with = "role")]
        #[schemars(with = "RoleName")]
        role: Option<Role>,
        #[schemars(range(min = 1, max = TICKET_LIFE_S_MAX))]
        life_s: Option<u64>,
        /// One node unless it says otherwise; `null` is any number.
        #[serde(default = "one")]
        #[schemars(range(min = 1))]
        uses: Option<u32>,
    },
    /// For programs that use the store.
    Client {
        #[serde(deserialize_with = "access::verbs")]
        #[schemars(with = "Vec<VerbName>", length(min = 1))]
        allow: Verbs,
        #[schemars(length(min = 1, max = SCOPE_ENTRIES_MAX))]
        keyspaces: Option<Vec<KeyspaceName>>,
        #[schemars(length(min = 1, max = SCOPE_ENTRIES_MAX))]
        prefixes: Option<Vec<PrefixForm>>,
        #[serde(default)]
        #[schemars(with = "Name")]
        name: String,
        #[schemars(range(min = 1, max = TICKET_LIFE_S_MAX))]
        life_s: Option<u64>,
        /// Any number of clients unless it says otherwise: most draw a new key each time.
        #[serde(default)]
        #[schemars(range(min = 1, max = GRANT_USES_MAX))]
        uses: Option<u32>,
    },
}

pub(super) const FORM: Form = json::form::<CreateForm>("new ticket");

fn one() -> Option<u32> {
    Some(1)
}

fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Role>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ticket")]
struct CreatedForm {
    id: AccessId,
    kind: &'static str,
    ticket: String,
    expires_s: u64,
    uses: Option<u32>,
}

pub(super) static CREATE: Operation = Operation {
    id: "createTicket",
    part: CLUSTER,
    about: "Makes a ticket, which is told this once",
    need: Need::All(Verb::Admin),
    body: Some(Content::json::<CreateForm>(
        r#"{"kind": "client", "allow": ["read"], "name": "dashboard", "life_s": 3600}"#,
    )),
    answers: &[Reply::json::<CreatedForm>(201, "the ticket").with(&[LOCATION])],
    problems: &[
        ANY,
        WITH_BODY,
        OF_CLUSTER,
        &[
            &INVALID,
            &MALFORMED,
            &TICKET_EXISTS,
            &TICKET_LIFE,
            &TICKET_USES,
            &TOO_MANY_TICKETS,
            &UNCLEAR,
        ],
    ],
    ..Operation::NEW
};

pub(super) async fn create(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let (form, _held) = body::read_json(&node.app, request.into_body()).await?;
    let cluster = &node.door.cluster;
    let life = |life_s: Option<u64>| Duration::from_secs(life_s.unwrap_or(LIFE_S));
    let form = match form {
        CreateForm::Node { role, life_s, uses } => {
            let role = role.unwrap_or(Role::Voter);
            let ticket = cluster.invite(role, life(life_s), uses).await?;
            let invitation = ticket.invitation();
            CreatedForm {
                id: AccessId(invitation.id),
                kind: "node",
                ticket: ticket.to_string(),
                expires_s: invitation.expires_s,
                uses: limited(invitation.uses),
            }
        }
        CreateForm::Client { allow, keyspaces, prefixes, name, life_s, uses } => {
            let access = Access { name, scope: access::scope(keyspaces, prefixes)?, verbs: allow };
            let ticket = cluster.grant(access, life(life_s), uses).await?;
            let grant = ticket.grant();
            CreatedForm {
                id: AccessId(grant.id),
                kind: "client",
                ticket: ticket.to_string(),
                expires_s: grant.expires_s,
                uses: limited(grant.uses),
            }
        }
    };
    Ok(json::created(format!("/v1/tickets/{}", form.id), &form))
}

/// How often a ticket may be used; `None` is as often as one likes.
fn limited(uses: u32) -> Option<u32> {
    (uses != USES_ANY).then_some(uses)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tickets")]
struct ListForm<'a> {
    now_s: u64,
    tickets: Vec<ListedForm<'a>>,
}

/// What tickets of both kinds say in the list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListedTicket")]
struct ListedForm<'a> {
    id: AccessId,
    kind: &'static str,
    #[serde(flatten)]
    what: WhatForm<'a>,
    state: &'static str,
    created_s: u64,
    expires_s: u64,
    uses: Option<u32>,
    used: u32,
    issuer: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "TicketScope")]
enum WhatForm<'a> {
    Node(NodeForm),
    Client(AccessForm<'a>),
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NodeTicket")]
struct NodeForm {
    role: String,
}

/// What keeps a ticket from being used, if anything does.
struct Use {
    revoked: bool,
    expires_s: u64,
    uses: u32,
    used: u32,
    issuer: EndpointId,
}

impl Use {
    fn state(&self, roster: &Roster, now_s: u64) -> &'static str {
        let issuer_is_there =
            roster.member_of(self.issuer).is_some_and(|member| member.is_present());
        match self {
            Use { revoked: true, .. } => "revoked",
            Use { expires_s, .. } if *expires_s <= now_s => "expired",
            Use { uses, used, .. } if *uses != USES_ANY && used >= uses => "used-up",
            _ if !issuer_is_there => "issuer-gone",
            _ => "good",
        }
    }
}

fn listed_invitation(
    roster: &Roster,
    now_s: u64,
    (ticket, invitation): (u128, &Invitation),
) -> ListedForm<'static> {
    let Invitation { role, created_s, expires_s, uses, used, issuer, revoked } = *invitation;
    ListedForm {
        id: AccessId(ticket),
        kind: "node",
        what: WhatForm::Node(NodeForm { role: role.to_string() }),
        state: Use { revoked, expires_s, uses, used, issuer }.state(roster, now_s),
        created_s,
        expires_s,
        uses: limited(uses),
        used,
        issuer: issuer.to_string(),
    }
}

fn listed_grant<'a>(
    roster: &Roster,
    now_s: u64,
    (ticket, grant): (u128, &'a Grant),
) -> ListedForm<'a> {
    let Grant { created_s, expires_s, uses, used, issuer, revoked, .. } = *grant;
    ListedForm {
        id: AccessId(ticket),
        kind: "client",
        what: WhatForm::Client(AccessForm::of(&grant.name, &grant.scope, grant.verbs)),
        state: Use { revoked, expires_s, uses, used, issuer }.state(roster, now_s),
        created_s,
        expires_s,
        uses: limited(uses),
        used,
        issuer: issuer.to_string(),
    }
}

pub(super) static LIST: Operation = Operation {
    id: "listTickets",
    part: CLUSTER,
    about: "All tickets, without what makes them good",
    need: Need::All(Verb::Admin),
    answers: &[Reply::json::<ListForm<'static>>(200, "the tickets, those of nodes first")],
    problems: &[ANY, OF_CLUSTER],
    ..Operation::NEW
};

pub(super) async fn list(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let roster = node.door.cluster.fresh().await?;
    let now_s = node.door.cluster.now_s();
    let invitations = roster.invitations().map(|ticket| listed_invitation(&roster, now_s, ticket));
    let grants = roster.grants().map(|ticket| listed_grant(&roster, now_s, ticket));
    let tickets = invitations.chain(grants).collect();
    Ok(json::answer(StatusCode::OK, &ListForm { now_s, tickets }))
}

pub(super) static REVOKE: Operation = Operation {
    id: "revokeTicket",
    part: CLUSTER,
    about: "Ends a ticket, and the links that were made by it",
    need: Need::All(Verb::Admin),
    path: &[Param::needed::<AccessId>("id", "the ticket", "00000000000000000000000000000001")],
    answers: &[Reply::json::<RevokedForm>(200, "it is revoked")],
    problems: &[ANY, OF_CLUSTER, &[&TICKET_NOT_FOUND]],
    ..Operation::NEW
};

pub(super) async fn revoke(
    State(node): State<AtNode>,
    Path(ticket): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let ticket = AccessId::read(&ticket).ok_or(Refused::UnknownTicket)?;
    node.door.cluster.revoke(ticket.0).await?;
    Ok(json::answer(StatusCode::OK, &RevokedForm::of(ticket)))
}
