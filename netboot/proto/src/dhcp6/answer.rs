//! What each message is answered: a function of the link and the message, with no memory.

use dhcproto::v6::Status;

use super::Config;
use crate::boot::{self, Asker, Catalogue, Decision, HTTP_CLIENT};
use crate::effect::Ignored;
use crate::wire::dhcp6::{
    Answer, AnswerKind, Association, AssociationKind, Granted, Kind, Lifetimes, Message,
};
use crate::wire::walk::code;

/// Foreign addresses that one association is told to forget at a time; of more it hears when it asks again.
const MAX_FORGOTTEN: usize = 8;
/// Taken at once instead of waiting for other servers `[RFC 9915 § 18.2.1]`.
const PREFERENCE: u8 = 255;
/// The longest wait between two Solicits, and the shortest that may be asked for `[RFC 9915 § 21.24]`: a machine
/// shall not sleep for an hour because its neighbour was not ready.
const SOL_MAX_RT: u32 = 60;
/// The same between two Information-requests `[RFC 9915 § 21.25]`.
const INF_MAX_RT: u32 = 60;
/// When to ask for information again; no less than 600 s `[RFC 9915 § 21.23]`.
const INFORMATION_REFRESH_TIME: u32 = 3600;

/// An answer and what it says.
pub(super) struct Composed {
    /// The answer.
    pub(super) answer: Answer,
    /// What it says about booting.
    pub(super) boot: Decision,
    /// Whether it gives or confirms the link's address.
    pub(super) speaks_of_address: bool,
}

/// Composes the answer to a valid message `[RFC 9915 § 18.3]`.
pub(super) fn compose(
    config: &Config,
    catalogue: &Catalogue,
    message: &Message,
) -> Result<Composed, Ignored> {
    let kind = match message.kind {
        Kind::Solicit if !message.rapid_commit => AnswerKind::Advertise,
        Kind::Solicit
        | Kind::Request
        | Kind::Confirm
        | Kind::Renew
        | Kind::Rebind
        | Kind::Release
        | Kind::Decline
        | Kind::InformationRequest => AnswerKind::Reply,
    };
    let mut answer = Answer::new(kind, message.xid);
    if let Some(duid) = &message.client_id {
        answer.client_id(duid);
    }
    answer.server_id(config.server_id.as_bytes());
    if message.kind == Kind::Solicit {
        if message.rapid_commit { answer.rapid_commit() } else { answer.preference(PREFERENCE) }
    }
    let (granted, right) = match message.kind {
        // A Reply to a Solicit is made as one to a Request [RFC 9915 § 18.3.1].
        Kind::Solicit if !message.rapid_commit => (offer(config, &message.associations), false),
        Kind::Solicit | Kind::Request => (grant(config, &message.associations), false),
        Kind::Rebind if message.associations.is_empty() => return Err(Ignored::NothingToJudge),
        Kind::Renew | Kind::Rebind => (extend(config, &message.associations), false),
        Kind::Confirm => (Vec::new(), confirm(config, message, &mut answer)?),
        Kind::Release | Kind::Decline => {
            answer.status(Status::Success, "the lease is the link's");
            (unbound(config, &message.associations), false)
        }
        Kind::InformationRequest => (Vec::new(), false),
    };
    let boot = match message.kind {
        Kind::Confirm | Kind::Release | Kind::Decline => Decision::NotAsked,
        Kind::Solicit | Kind::Request | Kind::Renew | Kind::Rebind | Kind::InformationRequest => {
            add_options(config, catalogue, message, &mut answer)
        }
    };
    // Last: they take what room is left.
    answer.associations(&granted);
    let speaks_of_address = right || granted.iter().any(Granted::leases);
    Ok(Composed { answer, boot, speaks_of_address })
}

/// Confirm: yes if every address is the link's, no if one is not, silence if there is none to judge
/// `[RFC 9915 § 18.3.3]`.
fn confirm(config: &Config, message: &Message, answer: &mut Answer) -> Result<bool, Ignored> {
    let mut addresses = message.associations.iter().flat_map(|association| &association.addresses).peekable();
    if addresses.peek().is_none() {
        return Err(Ignored::NothingToJudge);
    }
    let right = addresses.all(|address| *address == config.prefix.far());
    if right {
        answer.status(Status::Success, "still right");
    } else {
        answer.status(Status::NotOnLink, "this link has other addresses");
    }
    Ok(right)
}

/// Solicit: the address for one association, a status for the others.
fn offer(config: &Config, associations: &[Association]) -> Vec<Granted> {
    each(config, associations, |_, _| None)
}

/// Request: as Solicit, but an association with a foreign address is told so `[RFC 9915 § 18.3.2]`.
fn grant(config: &Config, associations: &[Association]) -> Vec<Granted> {
    each(config, associations, |config, association| {
        let foreign = association.addresses.iter().any(|address| !config.prefix.net().contains(address));
        foreign.then(|| refused(association, Status::NotOnLink, "not an address of this link"))
    })
}

/// Renew and Rebind: the address again, or for the first time, and a lifetime of zero for any other
/// `[RFC 9915 § 18.3.4, § 18.3.5]`.
fn extend(config: &Config, associations: &[Association]) -> Vec<Granted> {
    let far = config.prefix.far();
    let mut granted = each(config, associations, |_, _| None);
    for (association, granted) in associations.iter().zip(&mut granted) {
        if association.kind == AssociationKind::Addresses {
            let others = association.addresses.iter().filter(|address| **address != far);
            granted.addresses.extend(others.take(MAX_FORGOTTEN).map(|address| (*address, Lifetimes::OVER)));
        }
    }
    granted
}

/// Release and Decline: the associations that have nothing of this link's `[RFC 9915 § 18.3.7, § 18.3.8]`.
fn unbound(config: &Config, associations: &[Association]) -> Vec<Granted> {
    let far = config.prefix.far();
    let unbound = associations.iter().filter(|association| !association.addresses.contains(&far));
    unbound.map(|one| refused(one, Status::NoBinding, "not an address of this link")).collect()
}

/// Answers each association: `judge` may refuse one; of the rest the one that names the address has it, else
/// the first.
fn each(
    config: &Config,
    associations: &[Association],
    judge: impl Fn(&Config, &Association) -> Option<Granted>,
) -> Vec<Granted> {
    let far = config.prefix.far();
    let eligible = |association: &Association| {
        association.kind == AssociationKind::Addresses && judge(config, association).is_none()
    };
    let holds = |association: &Association| eligible(association) && association.addresses.contains(&far);
    let winner = associations.iter().position(holds).or_else(|| associations.iter().position(eligible));
    let answers = associations.iter().enumerate().map(|(at, association)| match association.kind {
        AssociationKind::Prefixes => {
            refused(association, Status::NoPrefixAvail, "no prefixes are given here")
        }
        AssociationKind::Temporary => {
            refused(association, Status::NoAddrsAvail, "no temporary addresses are given here")
        }
        AssociationKind::Addresses if Some(at) == winner => Granted {
            kind: association.kind,
            iaid: association.iaid,
            addresses: vec![(far, config.lifetimes)],
            status: None,
        },
        AssociationKind::Addresses => judge(config, association)
            .unwrap_or_else(|| refused(association, Status::NoAddrsAvail, "a link has one address")),
    });
    answers.collect()
}

fn refused(association: &Association, status: Status, text: &'static str) -> Granted {
    Granted {
        kind: association.kind,
        iaid: association.iaid,
        addresses: Vec::new(),
        status: Some((status, text)),
    }
}

/// Adds the options that the client asked for and that there are.
///
/// Never option 12, which is obsolete and which EDK2 obeys, nor 60, which it reads in a way of its own.
fn add_options(config: &Config, catalogue: &Catalogue, message: &Message, answer: &mut Answer) -> Decision {
    let services = &config.services;
    if message.wants(code::DNS_SERVERS) && !services.dns().is_empty() {
        answer.servers(code::DNS_SERVERS, services.dns());
    }
    if message.wants(code::DOMAIN_LIST) && !services.search().is_empty() {
        answer.search(services.search());
    }
    // An NTP server answers clients of SNTP as well.
    if message.wants(code::SNTP_SERVERS) && !services.ntp().is_empty() {
        answer.servers(code::SNTP_SERVERS, services.ntp());
    }
    if message.wants(code::NTP_SERVER) {
        for server in services.ntp() {
            answer.ntp_server(*server);
        }
    }
    if message.wants(code::SOL_MAX_RT) {
        answer.seconds(code::SOL_MAX_RT, SOL_MAX_RT);
    }
    if message.wants(code::INF_MAX_RT) {
        answer.seconds(code::INF_MAX_RT, INF_MAX_RT);
    }
    if message.kind == Kind::InformationRequest && message.wants(code::INFORMATION_REFRESH_TIME) {
        answer.seconds(code::INFORMATION_REFRESH_TIME, INFORMATION_REFRESH_TIME);
    }
    let asker = Asker {
        asked: message.wants(code::BOOTFILE_URL),
        architectures: &message.architectures,
        vendor_classes: &message.vendor_classes,
        user_classes: &message.user_classes,
    };
    let decision = boot::decide(&asker, config.prefix.near(), catalogue);
    if let Decision::Offer(offer) = &decision {
        answer.bootfile_url(&offer.url);
        answer.architecture(offer.number);
        if let Some(enterprise) = offer.echo {
            answer.vendor_class(enterprise, HTTP_CLIENT);
        }
    }
    decision
}
