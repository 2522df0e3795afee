//! Any bytes are a client's ticket in its one form, or refused; as a string too.

use aspen_tickets::{ClientTicket, Ticket};

pub fn run(bytes: &[u8]) {
    if let Ok(ticket) = ClientTicket::decode_bytes(bytes) {
        assert_eq!(ticket.encode_bytes(), bytes);
        let text = ticket.to_string();
        assert_eq!(text.parse::<ClientTicket>().expect("a ticket's own string"), ticket);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(ticket) = text.parse::<ClientTicket>()
    {
        assert_eq!(ticket.to_string(), text.trim().to_ascii_lowercase());
    }
}
