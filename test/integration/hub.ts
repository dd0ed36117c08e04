// A server that speaks the Hugging Face hub's API as @huggingface/hub 2.17.5 uses it: a repository's commit, its tree in
// pages, and files, the large ones behind a redirect to a second origin that must never see the token.
import { createHash } from "node:crypto"
import { once } from "node:events"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

export interface HubRepository {
  readonly files: Readonly<Record<string, Buffer>>
  readonly gated?: boolean // its files need TOKEN
}

export const TOKEN = "hf_of_the_test"

const COMMIT = "5f0b02c75b57c5855da9ae460ce51323ea669d8a"
const PAGE = 2 // entries of a tree

/** What the library says that it can read: xet, which the hub offers in place of the bytes. */
const XET = "application/vnd.xet-fileinfo+json"

const isLarge = (path: string): boolean => /\.(gguf|safetensors)$/.test(path)

export class HubServer implements AsyncDisposable {
  readonly #repositories: Readonly<Record<string, HubRepository>>
  readonly #hub = createServer((request, response) => this.#answer(request, response))
  readonly #storage = createServer((request, response) => this.#store(request, response))
  /** Bytes after which the storage cuts connections, a number a connection; then it cuts none. */
  cuts: Array<number> = []
  /** The storage holds back the rest of a file from here on, until the connection ends. */
  holdsAt = Number.POSITIVE_INFINITY
  /** What the storage sends in place of a file's bytes. */
  damages: ((bytes: Buffer) => Buffer) | undefined
  /** The ranges that the storage was asked for, without those of a single byte. */
  readonly ranges: Array<string> = []
  /** How often the hub was asked. */
  asked = 0

  static async start(repositories: Readonly<Record<string, HubRepository>>): Promise<HubServer> {
    const server = new HubServer(repositories)
    for (const one of [server.#hub, server.#storage]) await once(one.listen(0, "127.0.0.1"), "listening")
    return server
  }

  private constructor(repositories: Readonly<Record<string, HubRepository>>) {
    this.#repositories = repositories
  }

  get url(): string {
    return urlOf(this.#hub)
  }

  async [Symbol.asyncDispose]() {
    for (const one of [this.#hub, this.#storage]) {
      one.closeAllConnections()
      one.close()
      await once(one, "close")
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    this.asked++
    const { pathname, searchParams } = new URL(request.url ?? "/", this.url)
    const [, tree, revised] =
      /^\/api\/models\/([^/]+\/[^/]+)\/(?:tree\/([0-9a-f]+)|revision\/HEAD)$/.exec(pathname) ?? []
    const [, resolved, commit, path = ""] = /^\/([^/]+\/[^/]+)\/resolve\/([0-9a-f]+)\/(.+)$/.exec(pathname) ?? []
    const name = tree ?? resolved ?? ""
    const repository = this.#repositories[name]
    const token = request.headers.authorization
    if (token !== undefined && token !== `Bearer ${TOKEN}`) {
      return refuse(response, 401, undefined, "Invalid credentials in Authorization header")
    }
    if (repository === undefined) {
      // Whether it is not there or private is not told to strangers.
      if (token === undefined) return refuse(response, 401, "RepoNotFound", "Invalid username or password.")
      return refuse(response, 404, "RepoNotFound", "Repository not found")
    }
    if ((revised ?? commit ?? COMMIT) !== COMMIT) return refuse(response, 404, "RevisionNotFound", "Invalid rev id")
    if (tree === undefined) return this.#file(request, response, name, repository, path)
    if (revised === undefined) {
      return json(response, {
        _id: "66e0",
        id: name,
        private: false,
        gated: repository.gated ? "manual" : false,
        sha: COMMIT,
      })
    }
    const entries = entriesOf(repository)
    const from = Number(searchParams.get("cursor") ?? 0)
    if (from + PAGE < entries.length) {
      searchParams.set("cursor", `${from + PAGE}`)
      response.setHeader("link", `<${this.url}${pathname}?${searchParams}>; rel="next"`)
    }
    json(response, entries.slice(from, from + PAGE))
  }

  #file(
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
    { files, gated }: HubRepository,
    path: string,
  ) {
    const bytes = files[path]
    const token = request.headers.authorization
    if (gated && token === undefined) {
      const words = `Access to model ${name} is restricted. You must have access to it and be authenticated to access it. Please log in.`
      return refuse(response, 401, "GatedRepo", words)
    }
    if (bytes === undefined) return refuse(response, 404, "EntryNotFound", "Entry not found")
    response.setHeader("x-repo-commit", COMMIT)
    if (!isLarge(path)) return send(request, response, bytes, gitHash(bytes))
    response.setHeader("x-linked-size", bytes.byteLength)
    response.setHeader("x-linked-etag", `"${sha256(bytes)}"`)
    if (request.headers.accept?.includes(XET)) {
      response.setHeader("x-xet-hash", sha256(bytes))
      const of = (what: string) => `<${this.url}/xet/${what}>; rel="xet-${what}"`
      response.setHeader("link", [of("auth"), of("reconstruction-info")].join(", "))
      response.writeHead(200, { "content-type": XET }).end(JSON.stringify({ hash: sha256(bytes) }))
      return
    }
    response.writeHead(302, { location: `${urlOf(this.#storage)}/${name}/${path}` }).end()
  }

  #store(request: IncomingMessage, response: ServerResponse): void {
    const [, name = "", path = ""] = /^\/([^/]+\/[^/]+)\/(.+)$/.exec(request.url ?? "") ?? []
    const bytes = this.#repositories[name]?.files[path]
    if (bytes === undefined || request.headers.authorization !== undefined) {
      response.writeHead(400, { "content-type": "application/xml" }).end("<Error><Code>InvalidArgument</Code></Error>")
      return
    }
    this.ranges.push(request.headers.range ?? "all")
    const sent = this.damages?.(bytes) ?? bytes
    const most = Math.min(this.cuts.shift() ?? Number.POSITIVE_INFINITY, this.holdsAt)
    send(request, response, sent, sha256(bytes), most, this.holdsAt === Number.POSITIVE_INFINITY)
  }
}

const urlOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex")
const gitHash = (bytes: Buffer): string =>
  createHash("sha1").update(`blob ${bytes.byteLength}\0`).update(bytes).digest("hex")

const entriesOf = ({ files }: HubRepository) =>
  [...new Set(Object.keys(files).flatMap((path) => (path.includes("/") ? [path.slice(0, path.indexOf("/"))] : [])))]
    .map((path): object => ({ type: "directory", oid: gitHash(Buffer.from(path)), size: 0, path }))
    .concat(
      Object.entries(files).map(([path, bytes]) => {
        const size = bytes.byteLength
        const lfs = { oid: sha256(bytes), size, pointerSize: 134 }
        const large = { lfs, xetHash: sha256(bytes) }
        return { type: "file", oid: gitHash(bytes), size, path, ...(isLarge(path) ? large : {}) }
      }),
    )

const json = (response: ServerResponse, body: object): void => {
  response.writeHead(200, { "content-type": "application/json; charset=utf-8" }).end(JSON.stringify(body))
}

const refuse = (response: ServerResponse, status: number, code: string | undefined, message: string): void => {
  if (code !== undefined) response.setHeader("x-error-code", code)
  response.setHeader("x-error-message", message)
  response
    .writeHead(status, { "content-type": "application/json; charset=utf-8" })
    .end(JSON.stringify({ error: message }))
}

/** A file or a range of it; of `most` bytes at most, then the connection is cut or, where it is not to be, left hanging. */
const send = (
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  etag: string,
  most = Number.POSITIVE_INFINITY,
  cut = true,
): void => {
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? []
  const start = Number(from ?? 0)
  const end = Math.min(Number(to ?? bytes.byteLength - 1), bytes.byteLength - 1)
  const part = bytes.subarray(start, end + 1)
  response.writeHead(from === undefined ? 200 : 206, {
    ...{ etag: `"${etag}"`, "accept-ranges": "bytes", "content-length": part.byteLength },
    ...(from === undefined ? {} : { "content-range": `bytes ${start}-${end}/${bytes.byteLength}` }),
  })
  if (part.byteLength <= most) return void response.end(part)
  response.write(part.subarray(0, most), () => (cut ? response.destroy() : undefined))
}
