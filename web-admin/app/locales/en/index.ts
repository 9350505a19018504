/** All words of this language, one file for each area. */

const files = import.meta.glob<Record<string, unknown>>('./*.json', { eager: true, import: 'default' })

export default Object.assign({}, ...Object.values(files)) as Record<string, unknown>
