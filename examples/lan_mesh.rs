//! Programs in one room that find each other by a secret, and are one cluster: no ticket and no
//! address is passed round.
//!
//! `cargo run --example lan_mesh NAME SECRET [EXPECTED]` on each machine of a LAN, with a name for
//! each and one secret for all; the cluster begins once as many have met as are expected, three
//! unless said otherwise. Each greets the others and shows who greets, until Ctrl-C. What was
//! written is still there when it is started again. Without arguments it only says so.

use std::error::Error;

use aspen::{KvServiceBuilder, Mesh};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [name, secret] => meet(name, secret, 3).await,
        [name, secret, expected] => meet(name, secret, expected.parse()?).await,
        _ => {
            println!("run `lan_mesh NAME SECRET [EXPECTED]` on each machine of a LAN");
            Ok(())
        }
    }
}

async fn meet(name: &str, secret: &str, expected: usize) -> Result<(), Box<dyn Error>> {
    println!("{name} looks for the others; {expected} are expected");
    let mesh = Mesh::with_secret("lab", secret.as_bytes())?.expecting(expected)?;
    // This takes as long as the others do to come; a member that starts again waits for nobody.
    let service = KvServiceBuilder::auto(format!("./data/lan-mesh-{name}"))
        .with_node_name(name)
        .with_mesh(mesh)
        .start()
        .await?;
    println!("{name} is node {} of the cluster", service.node().node_id);

    let kv = service.client();
    // Whoever was here first has greeted already: it is shown, too.
    let mut greetings = kv.watch("greetings/").from(1).await?;
    kv.put(format!("greetings/{name}"), format!("hello from {name}")).await?;
    loop {
        for event in greetings.next().await?.events {
            if let Some(greeting) = event.record {
                println!("{}", String::from_utf8_lossy(greeting.value.as_bytes()));
            }
        }
    }
}
