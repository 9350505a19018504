/** The dashboard's API client. */

import { ApiClient } from './client'

const REFRESH_LOCK = 'botyard.refresh'

export const api = new ApiClient({
  fetch: (...args) => window.fetch(...args),
  now: () => performance.now(),
  // Browsers offer locks in secure contexts only; elsewhere two tabs may have to sign in again.
  exclusively: (action) =>
    'locks' in navigator ? navigator.locks.request(REFRESH_LOCK, action) : action(),
})
