// node infra/terminal-picture.js docs/demo.png npm run demo
// Runs a command in a real terminal (tmux) and makes a picture of what is on it at the end, drawn by the system's
// Chromium in the colours that the command gave. How README's picture was made.
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { which } from "./workspace.js"

const COLUMNS = 118
const ROWS = 200 // more than is written; what stays empty is cut off
const FONT_PIXELS = 14
const LINE_PIXELS = 19
const PADDING = 22
const BAR_PIXELS = 34
const SCALE = 1.5 // device pixels a CSS pixel: sharp on a dense screen, and below 300 kB

/** The screen's lines with their escape sequences, after the command has ended. */
const screenOf = (command) => {
  const server = ["-L", `picture-${process.pid}`, "-f", "/dev/null"]
  const tmux = (...args) => execFileSync("tmux", [...server, ...args], { encoding: "utf8" })
  const shown = 'printf "\\033[2m$\\033[0m %s\\n" "$*"; "$@"; tmux wait-for -S ended; read -r _'
  tmux("new-session", "-d", "-x", COLUMNS, "-y", ROWS, "bash", "-c", shown, "bash", ...command)
  try {
    tmux("wait-for", "ended")
    return tmux("capture-pane", "-e", "-p").trimEnd().split("\n")
  } finally {
    tmux("kill-server")
  }
}

const PALETTE = ["#45475a", "#f38ba8", "#a6e3a1", "#f5c952", "#89b4fa", "#f5c2e7", "#94e2d5", "#bac2de"]

/** A select-graphic-rendition code's effect on the style so far. */
const styled = (style, code) => {
  if (code === 0) return {}
  if (code === 1) return { ...style, bold: true }
  if (code === 2) return { ...style, dim: true }
  if (code === 22) return { ...style, bold: false, dim: false }
  if (code >= 30 && code <= 37) return { ...style, colour: PALETTE[code - 30] }
  if (code >= 90 && code <= 97) return { ...style, colour: PALETTE[code - 90] }
  return code === 39 ? { ...style, colour: undefined } : style
}

const cssOf = ({ bold, dim, colour }) =>
  [bold && "font-weight:bold", dim && "opacity:.62", colour && `color:${colour}`].filter(Boolean).join(";")

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")

const htmlOf = (lines) => {
  let style = {}
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal's colours begin with one
  const pieces = lines.join("\n").split(/\u001b\[([\d;]*)m/)
  return pieces
    .map((piece, index) => {
      if (index % 2 === 0) return piece && `<span style="${cssOf(style)}">${escaped(piece)}</span>`
      for (const code of piece.split(";")) style = styled(style, Number(code))
      return ""
    })
    .join("")
}

const pageOf = (lines, title) => `<!doctype html><meta charset="utf-8"><style>
  body { margin: 0; background: #1e1e2e; color: #cdd6f4; font: ${FONT_PIXELS}px/${LINE_PIXELS}px "DejaVu Sans Mono", monospace }
  header { height: ${BAR_PIXELS}px; background: #313244; display: flex; align-items: center; gap: 8px; padding: 0 16px }
  i { width: 12px; height: 12px; border-radius: 50% }
  b { flex: 1; text-align: center; font-weight: normal; color: #a6adc8; margin-right: 52px }
  pre { margin: ${PADDING}px; font: inherit }
</style><header><i style="background:#f38ba8"></i><i style="background:#f5c952"></i><i style="background:#a6e3a1"></i>
<b>${escaped(title)}</b></header><pre>${htmlOf(lines)}</pre>`

const draw = (lines, title, picture) => {
  const browser = ["chromium", "chromium-browser", "google-chrome"].find((name) => which(name))
  if (browser === undefined) throw new Error("Chromium has to be on PATH: sudo apt-get install -y chromium")
  const folder = mkdtempSync(join(tmpdir(), "terminal-picture-"))
  const page = join(folder, "page.html")
  writeFileSync(page, pageOf(lines, title))
  const width = Math.ceil(COLUMNS * FONT_PIXELS * 0.602) + 2 * PADDING // 0.602 em: the advance of the font
  const height = lines.length * LINE_PIXELS + 2 * PADDING + BAR_PIXELS
  const flags = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    `--user-data-dir=${folder}/profile`,
  ]
  const drawing = [
    `--window-size=${width},${height}`,
    `--force-device-scale-factor=${SCALE}`,
    `--screenshot=${picture}`,
  ]
  const { status, stderr } = spawnSync(browser, [...flags, ...drawing, pathToFileURL(page).href], { encoding: "utf8" })
  rmSync(folder, { recursive: true, force: true })
  if (status !== 0) throw new Error(stderr)
}

const [picture, ...command] = process.argv.slice(2)
if (picture === undefined || command.length === 0) {
  process.stderr.write("usage: node infra/terminal-picture.js PICTURE.png COMMAND...\n")
  process.exitCode = 2
} else {
  draw(screenOf(command), command.join(" "), resolve(picture))
}
