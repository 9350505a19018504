/** For the test that compares the pages with the router's. */

export interface BrowserPage {
  name: string
  path: string
  ready: string
}

/** What of a browser's page finding them needs. */
interface Finder {
  goto: (url: string) => Promise<unknown>
  getAttribute: (selector: string, name: string) => Promise<string | null>
}

export const plainPages: BrowserPage[]
export const noticePages: BrowserPage[]
export const inboxPages: BrowserPage[]
export const dialogs: Record<string, string[]>
export function memberPages(page: Finder, address: (path: string) => string): Promise<BrowserPage[]>
export function operatorPages(page: Finder, address: (path: string) => string): Promise<BrowserPage[]>
