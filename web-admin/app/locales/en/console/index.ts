/** The words of the console's and the operators' pages, which the inbox does without. */

const files = import.meta.glob<Record<string, unknown>>('./*.json', { eager: true, import: 'default' })

export default Object.assign({}, ...Object.values(files)) as Record<string, unknown>
