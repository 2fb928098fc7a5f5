//! Join tokens as people paste and mistype them.

use lab_crdt_model::limit::AUTHORITY_BYTES_MAX;
use lab_crdt_model::token::{Seed, Token, print_typed};

/// A text that may be a token.
pub fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Token::parse(&text) {
        Ok(Token::Typed(Seed::Typed(seed))) => {
            assert_eq!(
                Token::parse(&print_typed(&seed)),
                Ok(Token::Typed(Seed::Typed(seed)))
            );
        }
        Ok(Token::Ticket(ticket)) => {
            assert!(ticket.invite.len() <= AUTHORITY_BYTES_MAX);
            let printed = ticket.print().expect("a ticket has a long seed");
            assert_eq!(Token::parse(&printed), Ok(Token::Ticket(ticket)));
        }
        Ok(Token::Typed(Seed::Long(_))) => panic!("a typed token has a short seed"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
