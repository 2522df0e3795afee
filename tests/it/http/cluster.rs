//! The cluster's endpoints on a node that is alone: members, tickets, refusals.

use serde_json::{Value as Json, json};

use super::Node;
use crate::wait::until;

#[tokio::test]
async fn the_cluster_is_shown_with_its_members_and_groups() {
    let node = Node::start().await;
    // The node's own record is written as it starts.
    let cluster = loop {
        let cluster = node.get("/v1/cluster").await.json();
        if cluster["members"][0]["node"] == 1 {
            break cluster;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(cluster["id"].as_str().unwrap().len(), 32);
    assert_eq!(cluster["node"]["id"], 1);
    let member = &cluster["members"][0];
    assert_eq!(member["endpoint_id"], cluster["node"]["endpoint_id"]);
    assert_eq!((&member["role"], &member["state"]), (&json!("voter"), &json!("active")));
    assert_eq!((&member["connected"], &member["heard_ms"]), (&json!(true), &json!(0)));
    assert_eq!(member["version"], env!("CARGO_PKG_VERSION"));
    let groups = cluster["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    for group in groups {
        assert_eq!((&group["role"], &group["leader"]), (&json!("leader"), &json!(1)));
        assert_eq!((&group["voters"], &group["learners"]), (&json!([1]), &json!([])));
    }
    node.get("/v1/cluster?x").await.problem(400, "bad-query");
    node.stop().await;
}

#[tokio::test]
async fn a_member_is_shown_by_its_number() {
    let node = Node::start().await;
    node.get("/v1/nodes/9").await.problem(404, "node-not-found");
    // The node's own record is written as it starts.
    until("it is a member", async || node.get("/v1/nodes/1").await.status == 200).await;
    let shown = node.get("/v1/nodes/1").await.json();
    let listed = node.get("/v1/cluster").await.json()["members"][0].take();
    let fields = |member: &Json| member.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&shown), fields(&listed));
    for name in ["node", "endpoint_id", "role", "state", "addresses", "connected", "health"] {
        assert_eq!(shown[name], listed[name], "{name}");
    }
    for id in ["x", "-1", "+1", "1.0", "%20", "18446744073709551616"] {
        node.get(&format!("/v1/nodes/{id}")).await.problem(400, "invalid");
    }
    node.get("/v1/nodes/1?x").await.problem(400, "bad-query");
    node.delete("/v1/nodes/1").await.problem(405, "method-not-allowed");
    node.stop().await;
}

#[tokio::test]
async fn tickets_are_made_listed_and_revoked() {
    let node = Node::start().await;
    let made = node.post("/v1/tickets", r#"{"kind": "node"}"#).await;
    assert_eq!(made.status, 201);
    let ticket = made.json();
    let id = ticket["id"].as_str().unwrap();
    assert_eq!(made.header("location"), format!("/v1/tickets/{id}"));
    assert_eq!((&ticket["kind"], &ticket["uses"]), (&json!("node"), &json!(1)));
    assert!(ticket["ticket"].as_str().unwrap().starts_with("aspen"));

    let client = json!({
        "kind": "client", "allow": ["read"], "name": "dash", "life_s": 60,
        "prefixes": [{"prefix": "app/"}, {"prefix": {"base64": "/w=="}}]
    });
    let client = node.post("/v1/tickets", client.to_string()).await.json();
    assert_eq!(client["uses"], Json::Null);

    let list = node.get("/v1/tickets").await.json();
    let find = |list: &Json, id: &Json| {
        let tickets = list["tickets"].as_array().unwrap();
        tickets.iter().find(|ticket| ticket["id"] == *id).unwrap().clone()
    };
    let invitation = find(&list, &ticket["id"]);
    assert_eq!((&invitation["role"], &invitation["state"]), (&json!("voter"), &json!("good")));
    let grant = find(&list, &client["id"]);
    assert_eq!(grant["allow"], json!(["read"]));
    assert_eq!(
        grant["prefixes"],
        json!([
            {"keyspace": "default", "prefix": "app/"},
            {"keyspace": "default", "prefix": {"base64": "/w=="}}
        ])
    );
    assert_eq!(grant["expires_s"].as_u64().unwrap() - grant["created_s"].as_u64().unwrap(), 60);

    let revoked = node.delete(&format!("/v1/tickets/{id}")).await;
    assert_eq!(revoked.json(), json!({"id": id, "state": "revoked"}));
    let list = node.get("/v1/tickets").await.json();
    assert_eq!(find(&list, &ticket["id"])["state"], "revoked");
    node.stop().await;
}

#[tokio::test]
async fn what_would_not_be_right_is_refused_by_name() {
    let node = Node::start().await;
    let create = async |body: Json| node.post("/v1/tickets", body.to_string()).await;
    create(json!({"kind": "node", "life_s": 0})).await.problem(400, "ticket-life");
    create(json!({"kind": "node", "uses": 0})).await.problem(400, "ticket-uses");
    create(json!({"kind": "node", "role": "king"})).await.problem(400, "bad-json");
    create(json!({"kind": "node", "allow": ["read"]})).await.problem(400, "bad-json");
    create(json!({"kind": "client"})).await.problem(400, "bad-json");
    create(json!({"kind": "client", "allow": []})).await.problem(400, "bad-json");
    let both = json!({"kind": "client", "allow": ["read"], "keyspaces": ["a"], "prefixes": []});
    create(both).await.problem(422, "unclear");
    let nothing = json!({"kind": "client", "allow": ["read"], "keyspaces": []});
    create(nothing).await.problem(400, "malformed");
    create(json!({"role": "voter"})).await.problem(400, "bad-json");

    for id in ["x", "1", &"0".repeat(32), &"F".repeat(32)] {
        node.delete(&format!("/v1/tickets/{id}")).await.problem(404, "ticket-not-found");
    }
    node.delete("/v1/members/1").await.problem(409, "last-voter");
    node.delete("/v1/members/9").await.problem(404, "node-not-found");
    node.delete("/v1/members/x").await.problem(400, "invalid");
    node.post("/v1/leave", "").await.problem(409, "last-voter");
    let transfer = async |group: &str, body: &str| {
        node.post(&format!("/v1/groups/{group}/transfer"), body.to_owned()).await
    };
    transfer("1", r#"{"to": 9}"#).await.problem(404, "node-not-found");
    transfer("1", r#"{"node": 1}"#).await.problem(400, "bad-json");
    transfer("x", r#"{"to": 1}"#).await.problem(400, "invalid");
    assert_eq!(transfer("1", r#"{"to": 1}"#).await.json(), json!({"group": 1, "leader": 1}));
    node.stop().await;
}
