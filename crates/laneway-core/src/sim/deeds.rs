//! What processes and their clients did is carried out, and judged.

use std::time::Duration;

use super::check::Title;
use super::client::{Client, Out};
use super::plan::Moment;
use super::process::Deed;
use super::story::Who;
use super::wire::Request;
use super::world::{Event, Host, World};
use crate::member::{Input, Protocol};
use crate::port::Report;

impl World {
    /// Carries out what a process did, and what its client did of it.
    pub(super) fn flush(&mut self, host: usize) {
        loop {
            let deeds = std::mem::take(&mut self.hosts[host].process.deeds);
            let outs = self.hosts[host].process.client.as_mut().map(Client::take_out);
            let outs = outs.unwrap_or_default();
            if deeds.is_empty() && outs.is_empty() {
                return;
            }
            for deed in deeds {
                self.carry_out(host, deed);
            }
            for out in outs {
                self.pass_on(host, out);
            }
        }
    }

    fn carry_out(&mut self, host: usize, deed: Deed) {
        match deed {
            Deed::At(at, event) => self.at(at, event),
            Deed::Joined(conn) => {
                self.tell(Who::Host(host), |_| format!("joins with client {}", conn.client));
                self.broker.connect(conn);
            }
            Deed::Opened { epoch, partition, offset } => {
                self.tell(Who::Host(host), |_| format!("opens t-{partition}@{epoch} at {offset}"));
                let conn = self.hosts[host].process.conn();
                let is_misled = self.hosts[host].misled.is_some();
                let may_know = self.run.protocol != Protocol::Consumer;
                let is_member = self.broker.is_member(conn) && (may_know || !is_misled);
                let title = Title { is_member, is_misled, owner: self.broker.owner(partition) };
                self.check.opened(conn, epoch, partition, offset, title);
            }
            Deed::Gave(parts) => self.check.gave(host, parts),
            Deed::Answered(answer) => {
                self.tell(Who::Host(host), |_| format!("answers: {answer:?}"));
                self.moment(host, Moment::Answered);
            }
            Deed::Committing { token, during_hold, offsets } => {
                let Host { misled, misled_commits, .. } = &mut self.hosts[host];
                if misled.is_some() && self.run.protocol == Protocol::Consumer {
                    misled_commits.insert(token);
                }
                self.tell(Who::Host(host), |_| format!("commits {offsets:?}, held: {during_hold}"));
                if during_hold {
                    self.moment(host, Moment::CommittingHeld);
                }
            }
            Deed::Nameless => self.check.fail(|| format!("I13: m{host} commits with an empty member id")),
            Deed::Unsubscribed => {
                self.tell(Who::Host(host), |_| "unsubscribes".to_owned());
                self.check.unsubscribed(host);
                self.moment(host, Moment::Leaving);
            }
            Deed::Closing => {
                self.tell(Who::Host(host), |_| "closes".to_owned());
                self.moment(host, Moment::Closing);
            }
            Deed::Discarded(conn) => {
                self.tell(Who::Host(host), |_| format!("lets client {} go", conn.client));
                let at = self.arrival(host, 0, 2);
                self.at(at, Event::Disconnect(conn));
            }
            Deed::Reported(report) => self.reported(host, report),
        }
    }

    fn reported(&mut self, host: usize, report: Report) {
        if let Report::Detached(lane) = &report {
            self.check.detached(host, lane.epoch);
        }
        if let Report::Revoked { lanes, drained: true, .. } = &report {
            for lane in lanes {
                self.check.drained(host, lane.epoch, lane.partition.partition);
            }
        }
        if !matches!(report, Report::Committed(_)) {
            self.tell(Who::Host(host), |_| format!("reports: {report:?}"));
        }
    }

    fn pass_on(&mut self, host: usize, out: Out) {
        let conn = self.hosts[host].process.conn();
        self.hosts[host].events.0 += u64::from(matches!(out, Out::Assign(_) | Out::Revoke(..)));
        let process = &mut self.hosts[host].process;
        let input = match out {
            Out::Send(request) => {
                let is_held = process.client.as_ref().is_some_and(Client::is_held);
                if is_held && matches!(request, Request::Reconcile { owned: Some(_), epoch: 1.., .. }) {
                    // After an error of the coordinator's, all of the current assignment is told, without
                    // what the unanswered event brought: a broker that wants that back takes it as given.
                    self.mislead(host);
                }
                if !matches!(
                    request,
                    Request::Heartbeat { .. } | Request::Reconcile { owned: None, epoch: 1.., .. }
                ) {
                    self.tell(Who::Host(host), |_| format!("sends {request:?}"));
                }
                let at = self.arrival(host, 0, 4);
                self.at(at, Event::Request(conn, request));
                return;
            }
            Out::Assign(parts) => Input::Assign(process.names(parts)),
            Out::Revoke(parts, lost) => Input::Revoke { partitions: process.names(parts), lost },
            Out::Committed(token, result) => {
                let result = match result {
                    Ok(()) => {
                        Ok(process.names_of_commit(token).into_iter().map(|name| (name, None)).collect())
                    }
                    Err(failure) => Err((failure, format!("{failure:?}"))),
                };
                Input::Committed { token, result }
            }
            Out::Closed if process.hangs => return,
            Out::Closed => Input::ClientClosed,
        };
        let at = self.arrival(host, 2, 3);
        self.at(at, Event::Told(conn, input));
    }

    /// How long a member has beyond drain and grace: a tick, and what is on its way.
    pub(super) fn tolerance() -> Duration {
        Duration::from_millis(500)
    }
}
