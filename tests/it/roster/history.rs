//! Any requests in any order, each decided on records that may be older than those it is committed
//! on: what is committed never breaks a promise.

use std::collections::{BTreeMap, BTreeSet};

use aspen::limits::TXN_OPS_MAX;
use aspen::roster::clients::{Presented, authorise};
use aspen::roster::keyspaces::{Aim, NewKeyspace, create, delete, place, settle};
use aspen::roster::leave::{finish_leaving, leave, remove, update};
use aspen::roster::records::{Stage, State};
use aspen::roster::tickets::{Access, grant, revoke};
use aspen::roster::{Roster, Standing};
use aspen::types::{EndpointId, GroupId, KeyspaceName, NodeId, Revision};
use aspen_tickets::{Role, Scope, USES_ANY, Verbs};
use proptest::prelude::*;

use super::*;

/// Requests name few nodes, keys and tickets, so that they meet.
#[derive(Clone, Debug)]
enum Request {
    Invite { id: u128, voter: bool, uses: u32, issuer: u8, life_s: u64 },
    Grant { id: u128, uses: u32, issuer: u8, life_s: u64 },
    Revoke { id: u128 },
    Admit { invitation: u128, endpoint: u8, incarnation: u128, wanted: Option<u64> },
    Use { grant: u128, endpoint: u8 },
    Update { node: u64, name: u8 },
    Leave { node: u64 },
    FinishLeaving { node: u64 },
    Remove { node: u64 },
    Create { name: u8, shards: u32 },
    Delete { name: u8 },
    Place { group: u64, replicas: BTreeSet<u64> },
    Settle { group: u64 },
}

fn requests() -> impl Strategy<Value = Request> {
    let (id, node, endpoint) = (1..5_u128, 1..8_u64, 1..5_u8);
    let uses = prop_oneof![1..3_u32, Just(USES_ANY)];
    let life_s = prop_oneof![Just(5_u64), Just(10_000)];
    prop_oneof![
        3 => (id.clone(), any::<bool>(), uses.clone(), endpoint.clone(), life_s.clone()).prop_map(
            |(id, voter, uses, issuer, life_s)| Request::Invite { id, voter, uses, issuer, life_s }
        ),
        1 => (id.clone(), uses, endpoint.clone(), life_s)
            .prop_map(|(id, uses, issuer, life_s)| Request::Grant { id, uses, issuer, life_s }),
        1 => id.clone().prop_map(|id| Request::Revoke { id }),
        8 => (id.clone(), endpoint.clone(), 1..4_u128, proptest::option::weighted(0.2, node.clone()))
            .prop_map(|(invitation, endpoint, incarnation, wanted)| {
                Request::Admit { invitation, endpoint, incarnation, wanted }
            }),
        2 => (id, endpoint).prop_map(|(grant, endpoint)| Request::Use { grant, endpoint }),
        1 => (node.clone(), 0..3_u8).prop_map(|(node, name)| Request::Update { node, name }),
        2 => node.clone().prop_map(|node| Request::Leave { node }),
        2 => node.clone().prop_map(|node| Request::FinishLeaving { node }),
        1 => node.clone().prop_map(|node| Request::Remove { node }),
        1 => (0..3_u8, 1..4_u32).prop_map(|(name, shards)| Request::Create { name, shards }),
        1 => (0..3_u8).prop_map(|name| Request::Delete { name }),
        4 => (1..8_u64, proptest::collection::btree_set(node, 1..4))
            .prop_map(|(group, replicas)| Request::Place { group, replicas }),
        3 => (1..8_u64).prop_map(|group| Request::Settle { group }),
    ]
}

fn named(name: u8) -> KeyspaceName {
    format!("k{name}").parse().expect("a name")
}

/// What is decided, on these records at this time.
fn decide(roster: &Roster, request: &Request, now_s: u64) -> Result<Change, Refused> {
    match request.clone() {
        Request::Invite { id, voter, uses, issuer, life_s } => {
            let what = if voter { Role::Voter } else { Role::Learner };
            let new = NewTicket { id, life_s, uses, issuer: key(issuer), what };
            invite(roster, &new, now_s).map(|(_, change)| change)
        }
        Request::Grant { id, uses, issuer, life_s } => {
            let what = Access { name: String::new(), scope: Scope::All, verbs: Verbs::ALL };
            let new = NewTicket { id, life_s, uses, issuer: key(issuer), what };
            grant(roster, &new, now_s).map(|(_, change)| change)
        }
        Request::Revoke { id } => revoke(roster, id),
        Request::Admit { invitation, endpoint, incarnation, wanted } => {
            let held = roster.invitations().find(|(id, _)| *id == invitation);
            let (id, held) = held.ok_or(Refused::UnknownTicket)?;
            let asked = application(&held.ticketed(id), key(endpoint), incarnation);
            let asked = Application { wanted: wanted.map(NodeId), ..asked };
            admit(roster, &asked, now_s, &verify).map(|(_, change)| change)
        }
        Request::Use { grant, endpoint } => {
            let held = roster.grants().find(|(id, _)| *id == grant);
            let (id, held) = held.ok_or(Refused::UnknownTicket)?;
            let grant = held.ticketed(id);
            let signature = signed(&grant);
            let endpoint = key(endpoint);
            let presented = Presented { cluster: CLUSTER, grant, signature, endpoint };
            authorise(roster, &presented, now_s, &verify).map(|(_, change)| change)
        }
        Request::Update { node, name } => {
            let description = Description { name: format!("{name}"), ..described(0) };
            update(roster, NodeId(node), &description)
        }
        Request::Leave { node } => leave(roster, NodeId(node), &BTreeSet::new()),
        Request::FinishLeaving { node } => finish_leaving(roster, NodeId(node)),
        Request::Remove { node } => remove(roster, NodeId(node), &BTreeSet::new()),
        Request::Create { name, shards } => {
            let new = NewKeyspace { name: named(name), shards, replicas: 3 };
            create(roster, &new, now_s).map(|(_, change)| change)
        }
        Request::Delete { name } => delete(roster, &named(name)),
        Request::Place { group, replicas } => {
            let mut change = Change::default();
            let replicas: BTreeSet<_> = replicas.into_iter().map(NodeId).collect();
            let aim = Aim { leader: replicas.first().copied(), replicas };
            place(roster, &mut change, GroupId(group), &aim).map(|()| change)
        }
        Request::Settle { group } => {
            let group = GroupId(group);
            let (_, as_of) = roster.shard(group).ok_or(Refused::UnknownGroup { group })?;
            let mut change = Change::default();
            settle(roster, &mut change, group, as_of).map(|()| change)
        }
    }
}

/// The meta group's key space: keys with their values and mod revisions.
#[derive(Default)]
struct Keys {
    revision: Revision,
    records: BTreeMap<Vec<u8>, (Vec<u8>, Revision)>,
}

impl Keys {
    fn commit(&mut self, change: &Change) -> bool {
        let holds = |(key, revision): &(Vec<u8>, Revision)| {
            self.records.get(key).map_or(0, |(_, present)| *present) == *revision
        };
        if !change.guards.iter().all(holds) {
            return false;
        }
        self.revision += u64::from(!change.is_empty());
        for (key, value) in &change.writes {
            match value {
                Some(value) => {
                    self.records.insert(key.clone(), (value.clone(), self.revision));
                }
                None => drop(self.records.remove(key)),
            }
        }
        true
    }

    fn load(&self) -> Roster {
        let records = self.records.iter().map(|(key, (value, at))| (key, value, *at));
        Roster::load(records, self.revision).expect("what was written can be read")
    }
}

/// Who each number was given to, for ever; and which nodes each invitation admitted.
#[derive(Default)]
struct Memory {
    numbers: BTreeMap<NodeId, (EndpointId, u128)>,
    removed: BTreeSet<NodeId>,
    /// The keyspace of each group, and when it was made.
    groups: BTreeMap<GroupId, (KeyspaceName, u64)>,
    /// Who may have a replica of each group, and is not let go.
    held: BTreeMap<GroupId, BTreeSet<NodeId>>,
}

impl Memory {
    fn check(&mut self, roster: &Roster) {
        let mut keys = BTreeSet::new();
        for member in roster.members() {
            let who = (member.endpoint, member.incarnation);
            assert_eq!(
                *self.numbers.entry(member.node).or_insert(who),
                who,
                "one number, one node"
            );
            if member.is_present() {
                assert!(!self.removed.contains(&member.node), "the removed stay so");
                assert!(keys.insert(member.endpoint), "one present member a key");
                let standing = Standing::Member(member.node);
                assert_eq!(roster.standing(member.endpoint), standing);
            } else {
                self.removed.insert(member.node);
                assert_ne!(roster.standing(member.endpoint), Standing::Stranger);
            }
        }
        self.check_shards(roster);
        assert!(
            roster.members().any(|m| m.state == State::Active && m.role == Role::Voter),
            "somebody votes"
        );
        for (id, invitation) in roster.invitations() {
            assert!(invitation.used <= invitation.uses, "invitation {id}");
        }
        for (id, grant) in roster.grants() {
            assert!(grant.used <= grant.uses, "grant {id}");
            assert_eq!(roster.clients_of(id).count(), grant.used as usize, "grant {id}");
        }
    }
}

impl Memory {
    fn check_shards(&mut self, roster: &Roster) {
        let mut groups = BTreeSet::new();
        for (name, keyspace) in roster.keyspaces() {
            for group in keyspace.groups() {
                assert!(groups.insert(group), "one group, one shard");
                let whose = (name.clone(), keyspace.created_s);
                let first = self.groups.entry(group).or_insert_with(|| whose.clone());
                assert_eq!(*first, whose, "a group is one keyspace's for ever");
            }
        }
        assert!(groups.iter().copied().eq(roster.shards().map(|(group, ..)| group)));
        self.held.retain(|group, _| groups.contains(group));
        for (group, shard, _) in roster.shards() {
            let held = self.held.entry(group).or_default();
            held.extend(&shard.replicas);
            if shard.stage == Stage::Settled {
                held.clone_from(&shard.replicas);
            }
            assert!(held.iter().all(|node| shard.is_held_by(*node)), "nobody is let go too soon");
            for node in held.iter() {
                assert!(roster.part(group, *node).is_some());
            }
        }
    }
}

fn check_shape(change: &Change) {
    assert!(change.guards.len() + change.writes.len() <= TXN_OPS_MAX);
    let keys: BTreeSet<&Vec<u8>> = change.writes.iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), change.writes.len(), "each key is written once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn nothing_that_is_committed_breaks_a_promise(
        requests in proptest::collection::vec((requests(), 0..3_usize), 1..80),
    ) {
        let mut keys = Keys::default();
        let mut memory = Memory::default();
        let founded = found(&keys.load(), founding(), NOW_S).expect("there is nothing yet");
        prop_assert!(keys.commit(&founded));
        let mut followed = keys.load();
        // The rosters on which requests are decided: the present one and two before it.
        let mut seen = vec![followed.clone(); 3];
        for (now_s, (request, age)) in (NOW_S..).zip(&requests) {
            let Ok(change) = decide(&seen[*age], request, now_s) else { continue };
            check_shape(&change);
            let committed = keys.commit(&change);
            prop_assert_eq!(followed.commit(&change), Ok(committed));
            prop_assert!(committed || *age > 0, "fresh decisions hold: {:?}", request);
            prop_assert_eq!(&keys.load(), &followed);
            memory.check(&followed);
            seen.rotate_right(1);
            seen[0] = followed.clone();
        }
    }
}
