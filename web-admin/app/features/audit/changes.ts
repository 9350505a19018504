/** What an entry of the audit changed, field by field, in a form that people read. */

export interface FieldChange {
  name: string
  before: string
  after: string
}

type Fields = Record<string, unknown> | null

export function changesBetween(before: Fields, after: Fields): FieldChange[] {
  const names = new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])
  return [...names]
    .map((name) => ({ name, before: written(before?.[name]), after: written(after?.[name]) }))
    .filter((change) => change.before !== change.after)
}

function written(value: unknown): string {
  if (value === undefined || value === null) return ''
  return typeof value === 'string' ? value : JSON.stringify(value)
}
