/** What an entry of the audit changed, field by field, in a form that people read. */

export interface FieldChange {
  name: string
  before: string
  after: string
}

type Fields = Record<string, unknown> | null

/** What is within a field stands for itself, by both names. */
export function changesBetween(fieldsBefore: Fields, fieldsAfter: Fields): FieldChange[] {
  const [before, after] = [flat(fieldsBefore), flat(fieldsAfter)]
  const names = new Set([...Object.keys(before), ...Object.keys(after)])
  return [...names]
    .map((name) => ({ name, before: written(before[name]), after: written(after[name]) }))
    .filter((change) => change.before !== change.after)
}

function flat(fields: Fields): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields ?? {}).flatMap(([name, value]) =>
      isRecord(value) ? Object.entries(value).map(([inner, held]) => [`${name}.${inner}`, held]) : [[name, value]],
    ),
  )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function written(value: unknown): string {
  if (value === undefined || value === null) return ''
  return typeof value === 'string' ? value : JSON.stringify(value)
}
