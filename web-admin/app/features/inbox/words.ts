/** What stands for names in a text that a member writes; pure. */

interface Named {
  id: string
  name: string
}

/** The server takes as many. */
const MAX_MENTIONS = 20

/** Members whose names a note calls. Of names that begin alike the longer one is meant. */
export function mentionsIn(text: string, members: readonly Named[]): string[] {
  const names = [...new Set(members.map(({ name }) => name))].filter(Boolean)
  let rest = text
  const called = new Set<string>()
  for (const name of names.toSorted((one, other) => other.length - one.length)) {
    const after = rest.replaceAll(`@${name}`, ' ')
    if (after !== rest) called.add(name)
    rest = after
  }
  return members.filter(({ name }) => called.has(name)).map(({ id }) => id).slice(0, MAX_MENTIONS)
}

/** A canned reply with the names in their places; whatever else stands in braces stays. */
export function filled(text: string, names: { contact: string; member: string }): string {
  return text.replace(/\{(contact|member)\}/g, (_, name: 'contact' | 'member') => names[name])
}
