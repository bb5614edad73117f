"""The concepts that names of exceptions and codes are made of, as words in lower case.

Longer ones stand before shorter ones that they begin with, because the first that fits is taken: a lock's
timeout is contention and no timeout, a bad gateway is no bad value.
"""

from __future__ import annotations

from eventbus.classify.kinds import Kind

_HELD = (
    r"(?:access |refresh |id |auth |security |session |bearer |client |csrf |xsrf |api |signing |user )*"
    r"(?:tokens?|credentials?|passwords?|passphrase|signatures?|secrets?|certificates?|cert|sessions?|"
    r"login|jwt|"
    r"api ?keys?|access keys?|otp|grant|logon|sender|webhook signature|host key|"
    r"fingerprint|roles?|scopes?|permissions?)"
)
_PARTY = (
    r"(?:servers?|services?|hosts?|brokers?|nodes?|clusters?|backends?|gateways?|providers?|"
    r"systems?|vault|database|db)"
)
_LINK = (
    r"(?:streams?|channels?|sessions?|connections?|sockets?|transports?|links?|clients?|pools?|"
    r"peers?|consumers?|producers?|conn)"
)

NOTHING = (
    r"(?:max |maximum )?(?:retry|retries|attempts?)(?: limit)?(?: exceeded| exhausted| error| failed|"
    r" reached| count exceeded)|"
    r"(?:max|too many|maximum) (?:retry|retries|attempts reached)(?: exceeded| error| reached)?|"
    r"retries exceeded|"
    r"connection string|connection settings|connection info|time ?out policy|rate limit policy"
)
"""What looks telling and says only that something else went wrong, or names a thing."""

QUALIFIERS = r"invalid|illegal|malformed|bad|wrong|unsupported|incorrect|negative"
"""Before a concept they make a value of it."""

VAGUE = (
    r"external|upstream|third party|apis?|providers?|gateway|remote|backends?|vendor|partner|"
    r"(?:server|service|internal|http|https|status|webhook|rest|sdk) (?:status )?(?:error|exception|"
    r"failure|failed|fault|err)|"
    r"(?:status|response) (?:error|code error|exception|failed)|soap|fault"
)
"""What tells of another system's fault when nothing tells better."""

CONCEPTS: dict[Kind, str] = {
    Kind.CONTENTION: (
        r"(?:(?:user|account|login) )?lock (?:wait )?(?:time ?outs?|timed out|wait exceeded)|"
        r"lock (?:not )?(?:acquired|acquisition|acquire|available|held|owned|busy|lost|conflict|"
        r"contention|taken|expired)|"
        r"(?:could not|cannot|can not|unable to|failed to|not) (?:acquire|lock|obtain)(?: lock)?|"
        r"already (?:locked|running|processing|in progress|leased|claimed|being processed)|"
        r"(?:operation|transaction|request|update|job|task|migration|build|import|rollout|"
        r"deployment) in progress|"
        r"(?:resource|row|record|table|database|file|object|entity|document|key|item|aggregate|"
        r"index) (?:is )?locked|"
        r"lock(?:ed|s)?(?= (?:error|exception|failed|failure)\b|$)|lockwait|nowait|resource busy|mutex|"
        r"semaphore|"
        r"deadlock(?:s|ed)?(?: detected| loser| victim| found)*|dead lock|"
        r"stale(?: (?:data|object|version|state|entity|write|row|record|read|model|aggregate|element))*|"
        r"optimistic(?: lock(?:ing)?)?(?: conflict| failed| failure| error)*|(?:row|record|entity|"
        r"aggregate|etag) version(?: mismatch| conflict)?|"
        r"concurren(?:t|cy) (?:\w+ )?(?:modification|update|updates|write|writes|access|error|"
        r"exception|conflict|violation|transactions?|edit|change)|"
        r"(?:transaction|write|read write|update) conflict|version conflict|"
        r"serialization (?:failure|conflict|anomaly)|(?:transaction|operation) (?:aborted|restart|"
        r"retry|retryable)|aborted$|"
        r"locked by|transaction cancell?ed|contention|contended|"
        r"lease (?:held|lost|taken|conflict|expired|already present)|watch error|"
        r"not owned|"
        r"(?:object|table|consumer|topic|partition) in use|group rebalance|rebalance in progress|"
        r"prior request not complete|"
        r"would block|try ?lock"
    ),
    Kind.RATE_LIMIT: (
        r"(?:api |request )?rate ?(?:limit|limits|limited|limiter|limiting|exceeded)(?: (?:exceeded|"
        r"reached|hit|error))*|"
        r"too many (?:in flight requests|requests?|calls|messages|concurrent requests|attempts|"
        r"login attempts|logins?|sign ?ins|tries|queries)|"
        r"throttl\w+|flood(?: wait| control| limit)?|slow ?mode(?: wait)?|slow down|retry after|"
        r"cool ?down|backpressure|back pressure|"
        r"(?:request|requests|call|calls|concurrency|concurrent requests?|concurrent \w+|burst|"
        r"bandwidth|api|tps|qps|read|write) (?:limits?|count limit)(?: (?:exceeded|reached|hit))?|"
        r"(?:provisioned )?throughput(?: limit)?(?: exceeded)|requests? per \w+|enhance your calm|"
        r"bucket full|user ?rate ?limit exceeded"
    ),
    Kind.QUOTA_EXCEEDED: (
        r"quotas?(?: (?:exceeded|exhausted|reached|error|violation|limited))*|payment required|"
        r"billing (?:limit|hard limit|not active)(?: reached)?|over ?quota|"
        r"(?:credits?|budgets?|allowance|usage|plan|licen[cs]es?|seats?|subscriptions?|spend\w*|"
        r"monthly|daily|weekly|trial|account)(?: \w+)? (?:exceeded|exhausted|limits?(?: exceeded|"
        r" reached| hit)?|used up|depleted|too low|cap)|"
        r"(?:insufficient|out of|no|not enough) (?:credits?|budget|quota|allowance|plan)|"
        r"limits? (?:exceeded|reached|hit)|exceeded|over limit|exceeded limit"
    ),
    Kind.RESOURCE: (
        r"out ?of ?(?:memory|disk|space|resources?|storage|file descriptors?|handles|"
        r"shared memory)(?: error)?|oom(?: killed)?|full$|"
        r"memory(?: (?:error|limit|limit exceeded|exhausted|exceeded|full|pressure|alloc\w*))?|"
        r"(?:disk|storage|device|volume|tablespace|table|filesystem|queue|buffer|pool|inbox|bus|"
        r"mailbox|cache) (?:is )?(?:space |memory )?(?:full|overflow(?:ed)?)|disk(?: space| usage|"
        r" quota| i o)?|"
        r"no (?:disk )?space(?: left)?(?: on device)?|insufficient (?:memory|resources?|"
        r"disk(?: space)?|storage|capacity|space|instance capacity|\w+ capacity)|"
        r"too many (?:open files|connections|clients|processes|sessions|threads|files|open \w+)|"
        r"(?:pool|connections?|resources?|memory|workers?|threads?|capacity|buffer|heap|disk|storage|"
        r"handles|descriptors|cpu|queue|file) (?:pool )?(?:exhausted|exhaustion|exceeded|depleted|"
        r"limit exceeded|limit reached|limit)|"
        r"(?:max|maximum) (?:connections|clients|sessions|memory)|capacity|exhausted|exhaustion|"
        r"broken (?:process|thread|executor|worker) ?pool|broken executor|worker lost|"
        r"terminated worker|enospc|emfile|enomem|enfile"
    ),
    Kind.UNAVAILABLE: (
        r"(?:temporar(?:y|ily) )?unavailable|not available|unavailability|overload(?:ed|ing)?|"
        r"over loaded|(?:under |down for )?maintenance|"
        r"shut(?:ting)? ?down|circuit(?: breaker)?(?: is)?(?: open(?:ed)?| broken)?|"
        r"breaker(?: is)?(?: open)?|not ready|"
        rf"{_PARTY} (?:is )?(?:down|offline|(?:too )?busy|starting(?: up)?|restarting|stopped|stopping|"
        rf"not running|sealed|loading)|"
        r"(?:busy )?loading|down$|offline|sealed|no (?:available )?(?:brokers?|leader|primary|master|"
        r"quorum|nodes?|hosts?|servers?|replicas?|living connections|workers?|channels?|"
        r"endpoints?)(?: available| responding| error)?|"
        r"not (?:the )?(?:leader|primary|master|controller|coordinator|coordinator for consumer|"
        r"leader for partition|enough replicas)(?: or follower| for partition)?|"
        r"(?:leader|coordinator|brokers?|primary|master|broker|node) not available|(?:coordinator|"
        r"group) load in progress|cluster ?down|master ?down|node not (?:ready|available|connected)|"
        r"auto ?reconnect|"
        r"try ?again(?: later)?|retry later|(?:temporary|transient|retryable|retriable|"
        r"recoverable) ?\w*|temp fail|outage|degraded|failover|brown ?out|busy"
    ),
    Kind.TIMEOUT: (
        r"time ?outs?|timed ?out|deadline(?:s)?(?: (?:exceeded|expired|missed|reached))*|(?:soft |"
        r"hard )?time ?limit(?: exceeded| reached)*|"
        r"too slow|took too long|etimedout|esockettimedout|wait expired|max time ms expired|"
        r"execution time exceeded|took longer|expired wait"
    ),
    Kind.EXTERNAL_API: (
        r"bad gateway|internal ?server(?: error)?|internal (?:error|failure|exception|fault)|"
        r"server error|server failure|"
        r"(?:unexpected|invalid|malformed|bad|unreadable|unparsable|garbled|empty|broken|no|incomplete|"
        r"unknown) (?:api |http |server |upstream |service |json )*(?:response|responses|answer|reply|"
        r"status(?: code)?|status line|content type)(?: (?:code|error|format))*|"
        r"(?:response|answer|reply) (?:format|parse|parsing|parser|decode|decoding|validation|invalid|"
        r"malformed|error)|upstream(?: (?:error|failure|failed|format|response))*|too many redirects|"
        r"redirect (?:loop|limit)|content type error|data ?loss|"
        r"(?:external|third party|remote|vendor|partner|provider|service|dependency|"
        r"backend) (?:service |system |api |call |dependency )*(?:error|failure|failed|failing|fault|"
        r"broken|exception|outage)"
    ),
    Kind.CONFLICT: (
        r"already (?!closed|disconnected|consumed|read|registered app)\w+(?: \w+)?|conflict\w*|"
        r"duplicated?s?(?: (?:key|entry|record|value|id|name|\w+))?|dup key|"
        r"(?<!not )(?<!nt )exists?|(?:in use|taken)|(?:not |non )?unique(?: \w+)?(?: violation|"
        r" violated)?|integrity(?: (?:violation|constraint))?|"
        r"(?:foreign key|not null|check|exclusion|restrict|primary key|referential|business rule|"
        r"rule)(?: constraint)?(?: integrity)? (?:violation|violated|failed)|constraint(?: violation|"
        r" violated| failed| failure| error)?|violat\w+|"
        r"archived|precondition(?: failed| not met)?|failed precondition|conditional (?:check|request|"
        r"write)(?: failed)?|idempoten\w+|double (?:booking|booked|spend\w*|charge\w*|entry|payment|"
        r"submi\w+)|not empty|resource modified|(?:has|have) (?:children|"
        r"dependents|references)"
    ),
    Kind.BUG: (
        r"(?:security|access|policy|protocol|contract|invariant|assertion) (?:violat\w+)|"
        r"bug|programming|type ?check|assert(?:ion)?s?(?: failed)?|"
        r"not ?implemented|unimplemented|not configured|"
        r"(?:mis|im|not |bad |invalid |improperly )?config(?:uration|ured)?|misconfigured|"
        r"improperly configured|settings?|"
        r"invariant|unreachable (?:code|state|branch)|undefined|inconsisten\w+|(?:unexpected|illegal|"
        r"impossible|internal) state|"
        r"should not happen|recursion|deprecated|circular|misuse|usage error|not (?:a )?coroutine|"
        r"missing dependency|dependency missing|missing (?:module|package|dependency|extra|import)|"
        r"no such method|"
        r"unknown (?:command|method|function|operator|opcode|operation|column|table)|"
        r"bad (?:method call|function call)|unexpected (?:keyword|argument)|invalid state error|programmer"
    ),
    Kind.PERMISSION: (
        rf"{_HELD} (?:is |was |has |not |has been |could not be )*(?:invalid|expired|missing|"
        rf"required|revoked|mismatch|rejected|malformed|wrong|incorrect|failed|verif\w+(?: failed|"
        rf" failure)?|validation(?: failed| failure)?|decode|too old|blacklisted|inactive|unknown|"
        rf"reuse\w*|refresh(?: failed)?|not found|not set)|"
        rf"(?:invalid|expired|missing|bad|wrong|revoked|no|unknown|incorrect|malformed|immature|weak|"
        rf"unverified|untrusted|stale|insecure) {_HELD}|"
        r"(?:login|auth\w*|credentials?|tokens?|permissions?|mfa|session|otp|2fa|two factor|password|"
        r"signature|consent|sudo|role|scope) (?:is )?(?:required|needed)|"
        r"(?:user|account|card holder|login) ?(?:is )?(?:locked(?: out)?|disabled|suspended|blocked|"
        r"banned|inactive|deactivated|not active)|locked out|lockout|"
        r"permissions?|(?:access |permission )?denied|forbidden|un ?authori[sz]ed\w*|not authori[sz]ed|"
        r"un ?authenticated|not authed|not authenticated|not permitted|not allowed|no (?:permission|"
        r"access|rights)|"
        r"auth|authn|authz|authentication\w*|authori[sz]ation\w*|credentials?|login|log ?in|passwords?|"
        r"(?:api|access|secret|private|public|signing|host|encryption) ?keys?|"
        r"tokens?(?! (?:limit|count|exceeded|error at))|signatures?(?: does not match)?|certificates?|"
        r"cert|jwt\w*|jws|jwe|jwks?|oauth ?\d?|saml|mfa|two factor|otp|2fa|csrf|acl|privileges?|"
        r"scopes?|role|access refused|(?:insufficient|missing|no|lacking|bot missing|"
        r"any) (?:permissions?|roles?|any role|scope|privileges?|rights|access)|"
        r"session (?:expired|invalid)|(?:permissions?|scopes?|roles?|privileges?) (?:missing|lacking)|"
        r"expired|revoked|security|suspended|banned|kicked|untrusted|"
        r"not verified|un ?licen[cs]ed|restricted|cant (?:update|delete|invite|kick|archive|leave)|"
        r"not (?:in|a? ?member of) (?:channel|group|team|workspace|organi[sz]ation)|"
        r"host key|cross origin|unrecognized client|request time too skewed|"
        r"invalid client|opt in required|subscription required|access|decrypt(?:ion)?|proxy auth\w*"
    ),
    Kind.NOT_FOUND: (
        r"not ?found|no ?such(?: (?!method)\w+)*|(?:does|do|did) ?not ?exists?|doesnt exist|"
        r"non ?existent\w*|non ?existing|not exist(?:s|ing)?|missing(?= (?:error|exception)\b|$)|"
        r"unresolvable|"
        r"no matching \w+|no (?:results?|rows?|data|match|matches|record|object|entity|answer|user|customer|"
        r"documents?)(?: found)?|(?:is |has )?gone$|nx ?domain|not registered|not (?:existing|present|"
        r"known)|no longer exists|(?:was |been |is )?deleted|unknown (?!error|exception|failure|fault|"
        r"host|field|parameter|option|attribute|type|format|encoding|protocol)(?:\w+)(?= |$)"
    ),
    Kind.VALIDATION: (
        r"method ?not ?allowed|unexpected (?:token|char\w*|eof|end|value|type|input|field|key|format)|"
        r"context (?:length|window)(?: exceeded)?|"
        r"(?:size|length|depth|payload|body|message|field|recursion|range|upload|context|tokens?|input|"
        r"content|file|entity|page|nesting|complexity|attribute|parameter)(?: size| length|"
        r" count)? (?:limits?(?: exceeded| reached)?|exceeded|too \w+|overflow)|"
        r"validat\w*|invalid\w*|malformed|bad (?:request|data|input|value|format|argument|parameter|"
        r"file|gzip|zip|zip ?file|json|\w+)|un ?processable|schemas?|pars(?:e|er|ing|able)|"
        r"un ?parse?able|decod\w+|encod\w+|un ?pickl\w+|pickl\w+|(?:de|un)?seriali[sz]\w*|"
        r"(?:un)?marshal\w*|format\w*|syntax|illegal|un ?supported|not ?supported|"
        r"(?:type |schema |checksum |version |hash |amount |currency )?mismatch\w*|out ?of ?range|"
        r"out of bounds|too (?:large|big|long|short|small|many|deep|high|low|old|early|few)(?: \w+)?|"
        r"oversized|unacceptable|not acceptable|required|missing \w+|wrong \w+|conversion|convert\w*|"
        r"coerc\w+|cast|"
        r"unrecogni[sz]ed(?: \w+)?|unknown (?:field|parameter|option|attribute|type|format|encoding)|"
        r"incorrect|corrupt\w*|checksum|crc|truncat\w+|declined?|insufficient (?:funds|stock|inventory|"
        r"balance)|out of stock|reject\w*|refund\w+ not allowed|blank|empty \w+|empty (?:value|input|"
        r"field|body|"
        r"payload)|not (?:a )?valid|unprocessed|content (?:filter|policy)\w*|moderation|blocked|"
        r"not (?!reach|call|retr|resolv)\w+able|"
        r"parameters?|arguments?|value error|literal|number format|date format"
    ),
    Kind.CONNECTION: (
        r"(?:no |not |failed to |cannot |could not )?connect(?:ion|ions|ivity|or|ed|"
        r"ing)?(?: (?:refused|reset|closed|lost|aborted|broken|dropped|error|failed|failure))*|"
        r"disconnect\w*|reconnect\w*|"
        rf"network\w*|sockets?|dns|name resolution|resolver?|host(?:name)? resolution|(?:host|network|"
        rf"net|destination|service|server) ?unreachable|unreachable|unknown host|no route(?: to host)?|"
        rf"(?:already )?closed error|{_LINK} (?:is |was |already )*(?:closed|closing|lost|reset|"
        rf"aborted|dropped|gone|broken|terminated)|(?:connection|socket|transport|link|channel|pool|"
        rf"peer|stream) (?:errors?|exception)|already closed|"
        r"connection refused|broken pipe|pipe|transport|peer|server (?:gone|has gone away|"
        r"disconnected)|econn\w+|eai \w+|ehost\w+|enet\w+|epipe|enotfound|protocol|incomplete read|eof|"
        r"end ?of ?file|hang ?up|handshake|tls|ssl|tunnel|proxy|delivery failed|communications?"
    ),
}
