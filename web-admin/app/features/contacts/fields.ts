/** A contact's own fields as they are written, and what changed of them; pure. */

export interface Field {
  name: string
  value: string
}

export const MAX_FIELDS = 20

export function fieldsOf(fields: Readonly<Record<string, string>>): Field[] {
  return Object.entries(fields).map(([name, value]) => ({ name, value }))
}

/** Names that stand twice, of which the server would keep one only. */
export function twice(written: readonly Field[]): string[] {
  const names = written.map(({ name }) => name.trim()).filter(Boolean)
  return [...new Set(names.filter((name, index) => names.indexOf(name) !== index))]
}

/** What to tell the server: null for what was removed, or has no value any more. */
export function changesOf(
  before: Readonly<Record<string, string>>,
  written: readonly Field[],
): Record<string, string | null> {
  const after = new Map(
    written.map(({ name, value }) => [name.trim(), value.trim()] as const).filter(([name, value]) => name && value),
  )
  const removed = Object.keys(before).filter((name) => !after.has(name))
  const set = [...after].filter(([name, value]) => before[name] !== value)
  return Object.fromEntries<string | null>([...removed.map((name) => [name, null] as const), ...set])
}
