/** The script tag that puts a web-chat channel on the customer's own page. */
export function embedTag(webchatUrl: string): string {
  const { origin, pathname } = new URL(webchatUrl)
  const token = pathname.split('/').at(-1) ?? ''
  return `<script src="${origin}/webchat-assets/loader.js" data-token="${token}" async></script>`
}
