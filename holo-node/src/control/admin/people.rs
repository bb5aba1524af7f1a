//! Tickets, principals, settings.

use holo_core::catalog::{CatalogState, NewTicket, Operation, Settings};
use holo_core::wire::{
    PrincipalBody, PrincipalList, SettingsBody, TicketBody, TicketList, TicketOrder,
};
use holo_core::{
    ErrorCode, Failure, Grant, Principal, PublicKey, Role, TenantId, Verb, action, limits,
};

use super::{CLUSTER, Control, TICKETS};
use crate::home::{after, new_ticket};

/// A ticket's life where nobody says how long it shall be.
const TICKET_MS: u64 = 3_600_000;
/// A ticket's longest life.
const TICKET_MS_MAX: u64 = 7 * 24 * 3_600_000;

impl Control {
    /// Makes a ticket. Its text is in the answer and nowhere else.
    pub(super) async fn create_ticket(
        &self,
        key: PublicKey,
        order: &TicketOrder,
    ) -> Result<TicketList, Failure> {
        self.may::<action::Admit>(key, TICKETS)?;
        let lifetime = match order.lifetime_ms {
            0 => TICKET_MS,
            millis if millis <= TICKET_MS_MAX => millis,
            millis => {
                let message = format!("a ticket for {} hours", millis / 3_600_000);
                return Err(Failure::new(ErrorCode::InvalidArgument, message)
                    .help("7 days are the most; make another one later"));
            }
        };
        let expires = after(self.clock.wall(), lifetime);
        let (text, ticket) = new_ticket(self.cluster()?, expires, self.meeting_places())?;
        let new = NewTicket {
            key: ticket,
            role: Role::Node,
            expires,
            name_hint: order.node_name.clone(),
        };
        self.command(key, Operation::CreateTicket(new)).await?;
        tracing::info!(ticket = %ticket.short(), by = %key.short(), "a ticket was made");
        Ok(TicketList {
            tickets: vec![TicketBody {
                key: ticket.0.to_vec(),
                expires_unix_ms: expires.0,
                node_name: order.node_name.clone(),
                used_by: 0,
                text: text.as_str().to_owned(),
            }],
        })
    }

    /// Where a joiner may ask: nodes that answer, voters first.
    fn meeting_places(&self) -> Vec<String> {
        self.copy.read(|state| {
            let living = state.nodes().filter(|node| node.state.is_living());
            let mut nodes: Vec<_> = living.collect();
            nodes.sort_by_key(|it| (!it.up, !state.voters().contains(&it.number), it.number));
            let places = nodes.into_iter().map(|node| node.address.clone());
            places.take(limits::TICKET_ADDRESSES_MAX.min(3)).collect()
        })
    }

    /// All tickets, without their texts.
    pub(super) fn list_tickets(&self, key: PublicKey) -> Result<TicketList, Failure> {
        self.may::<action::Admit>(key, TICKETS)?;
        let tickets = self.copy.read(|state| {
            let body = |(key, ticket): (PublicKey, &holo_core::catalog::Ticket)| TicketBody {
                key: key.0.to_vec(),
                expires_unix_ms: ticket.expires.0,
                node_name: ticket.name_hint.clone(),
                used_by: ticket.used_by.map_or(0, |number| number.0),
                text: String::new(),
            };
            state.tickets().map(body).collect()
        });
        Ok(TicketList { tickets })
    }

    /// Withdraws a ticket, named by the start of its key.
    pub(super) async fn revoke_ticket(&self, key: PublicKey, start: &str) -> Result<(), Failure> {
        self.may::<action::Admit>(key, TICKETS)?;
        let ticket = self.copy.read(|state| find_ticket(state, start))?;
        self.command(key, Operation::RevokeTicket(ticket)).await?;
        Ok(())
    }

    /// Adds or replaces a principal.
    pub(super) async fn put_principal(
        &self,
        key: PublicKey,
        body: PrincipalBody,
    ) -> Result<(), Failure> {
        let grants = body.grants.iter().map(|text| parse_grant(text));
        let principal = Principal {
            key: PublicKey::from_slice(&body.key)?,
            name: body.name,
            tenant: TenantId(body.tenant),
            grants: grants.collect::<Result<_, _>>()?,
        };
        self.may::<action::Role>(key, &format!("tenants/{}", principal.tenant))?;
        self.command(key, Operation::PutPrincipal(principal)).await?;
        Ok(())
    }

    /// All principals.
    pub(super) fn list_principals(&self, key: PublicKey) -> Result<PrincipalList, Failure> {
        self.may::<action::Role>(key, "tenants")?;
        let body = |principal: &Principal| PrincipalBody {
            key: principal.key.0.to_vec(),
            name: principal.name.clone(),
            tenant: principal.tenant.0,
            grants: principal.grants.iter().map(grant_text).collect(),
        };
        let principals = self.copy.read(|state| state.principals().map(body).collect());
        Ok(PrincipalList { principals })
    }

    /// Changes the settings that are named, and shows all.
    pub(super) async fn change_settings(
        &self,
        key: PublicKey,
        wanted: SettingsBody,
    ) -> Result<SettingsBody, Failure> {
        if wanted != SettingsBody::default() {
            self.may::<action::Config>(key, CLUSTER)?;
            let small = |value: Option<u32>, now: u8| match value {
                None => Ok(now),
                Some(value) => u8::try_from(value).map_err(|_too_large| {
                    Failure::new(ErrorCode::InvalidArgument, format!("{value} is out of range"))
                }),
            };
            let now = self.copy.read(CatalogState::settings);
            let settings = Settings {
                repair_delay_ms: wanted.repair_delay_ms.unwrap_or(now.repair_delay_ms),
                voter_delay_ms: wanted.voter_delay_ms.unwrap_or(now.voter_delay_ms),
                replicas_default: small(wanted.replicas_default, now.replicas_default)?,
                voters_max: small(wanted.voters_max, now.voters_max)?,
            };
            self.command(key, Operation::Settings(settings)).await?;
        } else {
            self.may::<action::Status>(key, CLUSTER)?;
        }
        let now = self.copy.read(CatalogState::settings);
        Ok(SettingsBody {
            repair_delay_ms: Some(now.repair_delay_ms),
            voter_delay_ms: Some(now.voter_delay_ms),
            replicas_default: Some(u32::from(now.replicas_default)),
            voters_max: Some(u32::from(now.voters_max)),
        })
    }
}

fn find_ticket(state: &CatalogState, start: &str) -> Result<PublicKey, Failure> {
    if start.len() < 8 {
        return Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("ticket {start:?}: too short"),
        )
        .help("give at least the first 8 digits that `holo ticket ls` shows"));
    }
    let mut found = state.tickets().map(|(key, _)| key).filter(|it| it.to_hex().starts_with(start));
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("ticket {start}: there are several"),
        )),
        (None, _) => Err(Failure::new(ErrorCode::NotFound, format!("ticket {start}: not found"))
            .help("see `holo ticket ls`")),
    }
}

/// Reads `VERB` or `VERB:PATTERN`.
fn parse_grant(text: &str) -> Result<Grant, Failure> {
    let (verb, pattern) = text.split_once(':').unwrap_or((text, "*"));
    let verb = Verb::parse(verb)
        .map_err(|failure| Failure { code: ErrorCode::InvalidArgument, ..failure })?;
    Ok(Grant { verb, pattern: pattern.to_owned() })
}

fn grant_text(grant: &Grant) -> String {
    if grant.pattern == "*" {
        return grant.verb.name().to_owned();
    }
    format!("{}:{}", grant.verb.name(), grant.pattern)
}
