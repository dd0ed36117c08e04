// node bin/node24.js infra/pack.js [FOLDER]
// Packs chorus, @chorus/client and @chorus/durable as they are published, into dist/ or the folder. Node runs no TypeScript
// that lies in node_modules, so chorus is compiled; its files keep their places, since they find one another by them.
import { spawnSync } from "node:child_process"
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { filesIn } from "./ggml.js"
import { npm } from "./tools.js"
import { inRoot } from "./workspace.js"

const FILES = [
  ...["bin", "infra", "models/demo", "native", "src", "actors", "docs"],
  ...["CMakeLists.txt", "nats.conf", "README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"],
]
/** Of those: what is of use in a clone alone. */
const LEFT_OUT =
  /\.ts$|infra\/((kubernetes|systemd|grafana|nats)\/|Dockerfile|compose|prometheus|two-machines|tsconfig|(pack|release|audit|sanitized|terminal-picture)\.js)/

const run = (command, args, cwd) => {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8" })
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} failed:\n${stdout}${stderr}`)
  return stdout
}

const stage = (folder) => {
  const wanted = (path) => !LEFT_OUT.test(path.slice(inRoot().length))
  for (const file of FILES) cpSync(inRoot(file), join(folder, file), { recursive: true, filter: wanted })
  const tsc = inRoot("node_modules/typescript/bin/tsc")
  run(process.execPath, [tsc, "-p", inRoot("infra/tsconfig.json"), "--outDir", folder, "--rootDir", inRoot()], inRoot())
  const {
    scripts: _,
    devDependencies: __,
    workspaces: ___,
    overrides: ____,
    private: _____,
    ...own
  } = JSON.parse(readFileSync(inRoot("package.json"), "utf8"))
  const files = filesIn(folder).map((path) => path.slice(folder.length + 1))
  writeFileSync(join(folder, "package.json"), JSON.stringify({ ...own, files }, null, 2))
}

const target = resolve(process.argv[2] ?? inRoot("dist"))
mkdirSync(target, { recursive: true })
const scratch = mkdtempSync(join(tmpdir(), "chorus-pack-"))
try {
  stage(scratch)
  run(process.execPath, [inRoot("packages/build.js")], inRoot())
  const [command, ...first] = npm()
  for (const folder of [scratch, inRoot("packages/client"), inRoot("packages/durable")]) {
    process.stdout.write(run(command, [...first, "pack", "--silent", "--pack-destination", target], folder))
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
