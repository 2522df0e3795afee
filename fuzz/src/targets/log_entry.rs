//! Any bytes of a log entry are a command that encodes and decodes to itself, or refused.

use aspen::machine::ops::Command;

pub fn run(bytes: &[u8]) {
    if let Ok(command) = postcard::from_bytes::<Command>(bytes) {
        // The checks that need no state must hold up to anything that decodes.
        let _ = command.action.validate();
        let encoded = postcard::to_stdvec(&command).expect("a command encodes into memory");
        let again: Command = postcard::from_bytes(&encoded).expect("a command's own bytes");
        assert_eq!(again, command);
    }
}
