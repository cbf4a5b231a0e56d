//! The hint server's side: the very `Directory`, its questions and answers delayed.

use super::*;

impl World {
    pub(super) fn ask_hints(&mut self, who: usize, mut request: starling_proto::wire::HintRequest) {
        if !self.hints_alive {
            return self.push(self.now + Duration::from_secs(2), who, Event::Input(Input::HintsFailed));
        }
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.asking.insert(id, who);
        request.addrs = vec![Bytes::from_static(b"sim")];
        self.meter.control_bytes += (request.encode().len() + MESSAGE_OVERHEAD) as u64;
        let peer = self.nodes[who].id;
        let place = directory::Place { region: request.region.clone(), ..directory::Place::default() };
        self.direct(directory::Input::Asked { peer, id, request, place });
    }

    pub(super) fn direct(&mut self, input: directory::Input) {
        let now = self.clock();
        let mut out = Vec::new();
        self.directory.handle(now, input, &mut out);
        for output in out {
            self.carry_out_direction(output);
        }
        let deadline = self.directory.deadline().max(Time(self.now.0 + 1000));
        if deadline < self.directory_tick || self.directory_tick <= self.now {
            self.directory_tick = deadline;
            if deadline != Time::NEVER {
                self.push(deadline, SOURCE, Event::DirectoryTick);
            }
        }
    }

    pub(super) fn carry_out_direction(&mut self, output: directory::Output) {
        match output {
            directory::Output::Answer { id, response, .. } => {
                let Some(who) = self.asking.remove(&id) else { return };
                let at = self.now + self.delay(who, SOURCE) * 2;
                self.meter.control_bytes += (response.encode().len() + MESSAGE_OVERHEAD) as u64;
                if let Ok(roster) = Roster::decode(&response.roster) {
                    self.push(at, who, Event::Input(Input::RosterHeld { roster: Arc::new(roster) }));
                }
                self.push(at, who, Event::Input(Input::Hinted { response: Box::new(response) }));
            }
            directory::Output::SignRoster { stream, roster } => {
                let bytes = roster.encode();
                self.direct(directory::Input::RosterSigned { stream, bytes });
            }
        }
    }
}
