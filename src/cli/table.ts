// Plain tables: columns as wide as their widest cell, two spaces between them.

export interface Column {
  readonly title: string
  readonly align: "left" | "right"
}

/** Lines without trailing spaces. Cells hold one line and no escapes. */
export const table = (
  columns: ReadonlyArray<Column>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
): ReadonlyArray<string> => {
  const lines = [columns.map(({ title }) => title), ...rows]
  const widths = columns.map((_, index) => Math.max(...lines.map((cells) => (cells[index] ?? "").length)))
  return lines.map((cells) =>
    columns
      .map(({ align }, index) => {
        const cell = cells[index] ?? ""
        const width = widths[index] ?? 0
        return align === "left" ? cell.padEnd(width) : cell.padStart(width)
      })
      .join("  ")
      .trimEnd(),
  )
}
