// The draft tree of one iteration: the root (the bonus token) on the left, a column a depth, the accepted path marked by
// colour and a solid frame, and after it the token that the base chose itself.
import { shape } from "./draw.js"

/**
 * @typedef {{ at: number, root: string, tokens: ReadonlyArray<{ id: number, text: string }>,
 *   parents: ReadonlyArray<number>, logProbs: ReadonlyArray<number>, path: ReadonlyArray<number>, bonus: string,
 *   fuzzy: number, millis: number }} Iteration
 * @typedef {{ x: number, y: number, width: number }} Place
 */

const ROW = 34
const BOX = 22
const GAP = 30 // between columns
const MARGIN = 8
const CHARACTER = 8 // pixels of the drawing's font
const MOST = 14 // characters of a token
const PERCENT = 30 // pixels of "100%"

/** White space, made visible. @param {string} text */
const visible = (text) => {
  const shown = text.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "→").replaceAll("\r", "␍")
  if (shown === "") return "∅"
  return shown.length > MOST ? `${shown.slice(0, MOST - 1)}…` : shown
}

/** @param {string} text @param {boolean} [drafted] such a one has its probability beside it */
const widthOf = (text, drafted = false) => visible(text).length * CHARACTER + 16 + (drafted ? PERCENT : 0)

/** @param {Iteration} iteration @returns {SVGElement} */
export const drawTree = (iteration) => {
  const { tokens, parents, logProbs, path, root, bonus } = iteration
  const { places, start, end, width, height } = layout(iteration)
  const accepted = new Set(path)
  /** @param {number} node */
  const placeOf = (node) => places[node] ?? start
  const edges = parents.map((parent, node) =>
    edge(placeOf(parent), placeOf(node), accepted.has(node) ? "accepted" : ""),
  )
  const boxes = tokens.map(({ text }, node) => {
    const parent = logProbs[parents[node] ?? -1] ?? 0
    const probability = Math.exp((logProbs[node] ?? 0) - parent)
    return box(placeOf(node), text, accepted.has(node) ? "accepted" : "rejected", probability)
  })
  const words = `${path.length} of ${tokens.length} drafted tokens accepted`
  return shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" }, [
    shape("title", {}, [
      `${words}: ${path.map((node) => visible(tokens[node]?.text ?? "")).join(" ") || "none"}; then ${visible(bonus)}`,
    ]),
    ...edges.sort((a, b) => a.classList.length - b.classList.length), // the accepted ones on top
    edge(path.length === 0 ? start : placeOf(path.at(-1) ?? -1), end, "bonus"),
    box(start, root, "root"),
    ...boxes,
    box(end, bonus, "bonus"),
  ])
}

/** Leaves have a row each, parents stand in the middle of their children; the base's own token is a child like others. */
const layout = (/** @type {Iteration} */ { tokens, parents, path, root, bonus }) => {
  const bonusNode = tokens.length
  const texts = [...tokens.map(({ text }) => text), bonus]
  const all = [...parents, path.at(-1) ?? -1]
  /** @type {Map<number, Array<number>>} */
  const children = new Map()
  for (const [node, parent] of all.entries()) children.set(parent, [...(children.get(parent) ?? []), node])
  const depths = all.map(() => 1)
  for (const [node, parent] of all.entries()) depths[node] = parent === -1 ? 1 : (depths[parent] ?? 0) + 1
  const widths = texts.map((text, node) => widthOf(text, node !== bonusNode))
  const columns = columnsOf(depths, widths, widthOf(root))
  let rows = 0
  /** @type {Array<Place>} */
  const places = []
  /** @param {number} node @returns {number} its middle */
  const place = (node) => {
    const below = (children.get(node) ?? []).map(place)
    const y = below.length === 0 ? MARGIN + ROW * rows++ + ROW / 2 : mean(below)
    if (node >= 0) places[node] = { x: columns[depths[node] ?? 0] ?? 0, y, width: widths[node] ?? 0 }
    return y
  }
  const start = { x: MARGIN, y: place(-1), width: widthOf(root) }
  const right = Math.max(...places.map(({ x, width }) => x + width))
  const end = places[bonusNode] ?? start
  return { places, start, end, width: right + MARGIN, height: rows * ROW + 2 * MARGIN }
}

/** Where each depth begins. @param {ReadonlyArray<number>} depths @param {ReadonlyArray<number>} widths @param {number} root */
const columnsOf = (depths, widths, root) => {
  const columns = [MARGIN, MARGIN + root + GAP]
  for (let depth = 1; depth <= Math.max(...depths); depth++) {
    const widest = Math.max(...widths.map((width, node) => (depths[node] === depth ? width : 0)))
    columns.push((columns[depth] ?? 0) + widest + GAP)
  }
  return columns
}

/** @param {ReadonlyArray<number>} values */
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length

/** @param {Place} from @param {Place} to @param {string} kind */
const edge = (from, to, kind) => {
  const x = from.x + from.width
  const middle = (x + to.x) / 2
  return shape("path", { class: kind, d: `M${x},${from.y} C${middle},${from.y} ${middle},${to.y} ${to.x},${to.y}` })
}

/** @param {Place} place @param {string} text @param {string} kind @param {number} [probability] */
const box = ({ x, y, width }, text, kind, probability) =>
  shape("g", { class: kind }, [
    shape("rect", { x, y: y - BOX / 2, width, height: BOX, rx: 6 }),
    shape("text", { x: x + 8, y: y + 4.5 }, [visible(text)]),
    ...(probability === undefined
      ? []
      : [
          shape("text", { class: "probability", x: x + width - 6, y: y + 4, "text-anchor": "end" }, [
            percent(probability),
          ]),
        ]),
  ])

/** @param {number} share */
const percent = (share) => `${Math.round(share * 100)}%`
