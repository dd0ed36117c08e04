// Every subject that Chorus uses, and nothing else spells one out. All are under chorus.v1.<deployment>; a change of the
// protocol that old actors cannot follow raises the version.
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
    /** Pass commands: every rank of the group listens, the leader (or the last rank of a pipeline) answers. */
    pass: (group: string) => `${root}.group.${group}.pass`,
    /** Activations to one rank. */
    activation: (group: string, rank: number) => `${root}.group.${group}.rank.${rank}.act`,
    /** Activations to all the other ranks of a group: one message out, fanned out by the server. */
    activations: (group: string) => `${root}.group.${group}.act`,
    /** One rank's state, asked for: its newest beat. The endpoint of its entry in the services protocol. */
    status: (group: string, rank: number) => `${root}.group.${group}.rank.${rank}.status`,
    /** Session control to a whole group: release, cancel. */
    control: (group: string) => `${root}.group.${group}.ctl`,
    /** A client's wish to end a session. */
    cancel: (session: string) => `${root}.ctl.cancel.${session}`,
    /** A reader's word that somebody still wants a session's tokens. */
    interest: (session: string) => `${root}.ctl.interest.${session}`,
    /** What a session that is traced says of its iterations, live and nowhere stored. */
    trace: (session: string) => `${root}.trace.${session}`,
    /** Heartbeats. */
    beat: (actor: string) => `${root}.beat.${actor}`,
    /** All of them, for those who watch. */
    beats: `${root}.beat.>`,
  }
}

/** The stream that stores the token logs of all deployments. */
export const TOKEN_STREAM = "CHORUS_TOKENS"
export const TOKEN_STREAM_SUBJECTS = "chorus.v1.*.tokens.*"
