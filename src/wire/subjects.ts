// Every subject that Chorus uses, and nothing else spells one out. All are under chorus.v1.<deployment>, those of machines
// under chorus.v1.@host; a change of the protocol that old actors cannot follow raises the version.
const NAME = /^[A-Za-z0-9_-]{1,64}$/

/** A name that may stand in a subject: letters, digits, - and _, at most 64 of them. */
export const isName = (name: string): boolean => NAME.test(name)

/** The subjects of one deployment. */
export const subjectsOf = (deployment: string) => {
  const root = `chorus.v1.${deployment}`
  return {
    /** Requests for a generation; supervisors share them in a queue group. */
    infer: `${root}.infer`,
    /** A session's durable log, which is also its public token stream. */
    tokens: (session: string) => `${root}.tokens.${session}`,
    /** Readers of logs: a supervisor has JetStream send a session's log to any client that knows its name. */
    read: `${root}.read`,
    /** How far the ranks are that a session waits for: for current listeners, and not stored. */
    progress: (session: string) => `${root}.progress.${session}`,
    /** A client's wish to end a session. */
    cancel: (session: string) => `${root}.ctl.cancel.${session}`,
    /** What supervisors have to do: sessions that run or wait. The controller hears it. */
    demand: `${root}.demand`,
    /** KV of ended sessions that supervisors keep, for one another. */
    kept: `${root}.kept`,
    /** A reader's message that it still wants a session's tokens. */
    interest: (session: string) => `${root}.ctl.interest.${session}`,
    /** What a session that is traced says of its iterations, live and nowhere stored. */
    trace: (session: string) => `${root}.trace.${session}`,
    /** Heartbeats. */
    beat: (actor: string) => `${root}.beat.${actor}`,
    /** All of them, for observers. */
    beats: `${root}.beat.>`,
  }
}

/** The deployment of any subject of it, and the session that a log's ends with. */
export const placeOfLog = (subject: string): { readonly deployment: string; readonly session: string } => {
  const tokens = subject.split(".")
  return { deployment: tokens[2] ?? "", session: tokens.at(-1) ?? "" }
}

export interface GroupPlace {
  readonly deployment: string
  readonly epoch: number // of the replica: each activation has one of its own, so an old one hears nothing of a new one
  readonly group: string
}

/** The subjects of one group of ranks. */
export const groupSubjects = ({ deployment, epoch, group }: GroupPlace) => {
  const root = `chorus.v1.${deployment}.group.${epoch}.${group}`
  const beat = subjectsOf(deployment).beat(`${epoch}.${group}`)
  return {
    /** Pass commands: every rank of the group listens, the leader (or the last rank of a pipeline) answers. */
    pass: `${root}.pass`,
    /** Activations to one rank. */
    activation: (rank: number) => `${root}.rank.${rank}.act`,
    /** Activations to all the other ranks of a group: one message out, fanned out by the server. */
    activations: `${root}.act`,
    /** One rank's state, asked for: its newest beat. The endpoint of its entry in the services protocol. */
    status: (rank: number) => `${root}.rank.${rank}.status`,
    /** Session control to a whole group: release, cancel. */
    control: `${root}.ctl`,
    /** One rank's committed KV, as it grows: for the group's standby. */
    kv: (rank: number) => `${root}.kv.${rank}`,
    kvs: `${root}.kv.*`,
    /** What a standby wants of it. */
    kvWish: `${root}.kv`,
    /** Every rank of the group beats at once when it hears this. */
    rollCall: `${root}.roll`,
    beat: (rank: number) => `${beat}.${rank}`,
    beats: `${beat}.*`,
  }
}

/** Which process is which rank of an activation, and in which epoch: its processes hear it, whatever their role at the moment. */
export const formationSubject = (deployment: string, activation: number): string =>
  `chorus.v1.${deployment}.group.${activation}.formation`

/** The subjects of one machine's host; "*" is all of them. No deployment has an @ in its name. */
export const hostSubjects = (host: string) => {
  const root = `chorus.v1.@host.${host}`
  return {
    /** Requests to look at models, to start and to stop ranks. */
    control: `${root}.ctl`,
    beat: `${root}.beat`,
    /** Answered by the host that has the name: so a second one cannot join by it. */
    taken: `${root}.taken`,
  }
}

/** Where answers go. Other subjects get none: an asker could otherwise have us write where it may not write itself. */
const INBOX = /^_INBOX(\.[A-Za-z0-9_-]+)+$/
export const isInbox = (subject: string): boolean => INBOX.test(subject)

/** Supervisors answer what deployment they serve: by the NATS services protocol (ADR-32). */
export const SUPERVISORS = "$SRV.INFO.chorus-infer"

/** Hosts beat at once when they hear this. */
export const ROLL_CALL = "chorus.v1.@host"

/** The stream that stores the token logs of all deployments. */
export const TOKEN_STREAM = "CHORUS_TOKENS"
export const TOKEN_STREAM_SUBJECTS = "chorus.v1.*.tokens.*"
