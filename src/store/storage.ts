// What is stored on the servers: streams of messages by subject, each taken on disk before it is acknowledged. The log of
// tokens is one, and every bucket. A writer that shares a subject appends after the message that it knows as the last, so of
// two that write at once one is refused. jetStream.ts is the storage over NATS; whatever else has these operations is one too.
import { Context, type Effect, Schema, type Scope, type Stream } from "effect"
import type { StorageRefused } from "../wire/errors.ts"
import type { StorageHealth } from "./storageHealth.ts"

/** There is no such stream: it was never made, or is gone with all that was in it. */
export class StreamMissing extends Schema.TaggedError<StreamMissing>()("StreamMissing", { stream: Schema.String }) {
  override get message() {
    return `there is no stream ${this.stream}`
  }
}

/** No answer, whatever became of the question, or one that will be another in a moment. */
export class StorageSilent extends Schema.TaggedError<StorageSilent>()("StorageSilent", {
  stream: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return this.reason
  }
}

export type StorageError = StreamMissing | StorageSilent | StorageRefused

/** One subject a session; what is too old goes. */
export interface LogStream {
  readonly _tag: "Log"
  readonly stream: string
  readonly subjects: string // with wildcards
  readonly retentionMillis: number | null // null: as the stream has it, or an hour
}

/** The last message of each subject, `$KV.<bucket>.<key>`. */
export interface BucketStream {
  readonly _tag: "Bucket"
  readonly stream: string
  readonly bucket: string
  readonly keepMillis?: number // a key that is not written for so long goes by itself
  readonly markerMillis?: number // markers of keys that were removed may go by themselves, and of keys that went so it is told
}

/** A message as it is stored. */
export interface Stored {
  readonly subject: string
  readonly sequence: number // in its stream
  readonly data: Uint8Array
  readonly id: string | undefined // that it was appended with
  readonly removed: boolean // a marker: what was there is not any more
}

export interface Appending {
  readonly stream: string
  readonly subject: string
  readonly data: Uint8Array
  readonly after?: number // sequence of the subject's last message, 0 where there is none; left out: whatever is there
  readonly id?: string // its own: what comes twice is stored once
  /** What was there goes. With `markerMillis` so does its history at once, and the marker itself after this time. */
  readonly removes?: { readonly markerMillis?: number }
}

/** The last message of each subject, and what follows. */
export interface StoredChanges {
  readonly kept: number // messages that are there; they come first
  /** Ends, or fails, where one may have been missed: then it has to begin anew. */
  readonly all: Stream.Stream<Stored, StorageError>
}

export class Storage extends Context.Service<
  Storage,
  {
    /** Makes a stream where there is none; one that an operator has made with other settings stands as it is. */
    readonly make: (stream: LogStream | BucketStream) => Effect.Effect<void, StorageError>
    /** When a stream was made: at another time, it is another one. */
    readonly born: (stream: string) => Effect.Effect<string, StorageError>
    /** The new message's sequence; null where another writer has written to the subject. */
    readonly append: (message: Appending) => Effect.Effect<number | null, StorageError>
    /** The last message of a subject, as the stream's leader has it; null where there never was one. */
    readonly newest: (stream: string, subject: string) => Effect.Effect<Stored | null, StorageError>
    /** Messages of a subject from a sequence on, in order, as any server has them; none where there are no more. */
    readonly read: (stream: string, subject: string, from: number) => Effect.Effect<ReadonlyArray<Stored>, StorageError>
    /** A subject's first or last message; null where there is none, or no such stream. */
    readonly edge: (
      stream: string,
      subject: string,
      which: "first" | "last",
    ) => Effect.Effect<Stored | null, StorageError>
    /** Milliseconds since a subject's first message, by the servers' clocks; 0 where there is none. */
    readonly age: (stream: string, subject: string) => Effect.Effect<number, StorageError>
    /** Follows subjects, which may have wildcards, until the scope closes. */
    readonly changes: (
      stream: string,
      subjects: ReadonlyArray<string>,
    ) => Effect.Effect<StoredChanges, StorageError, Scope.Scope>
    /** Has a subject's messages after a sequence sent to an inbox, now and as they come, for as long as it has a listener. */
    readonly send: (stream: string, subject: string, after: number, inbox: string) => Effect.Effect<void, StorageError>
    /** Which streams refuse what is written, for all writers. */
    readonly health: StorageHealth
  }
>()("chorus/store/Storage") {}
